"""Answers for very many images: a Parquet file a shard, which any number of machines write, and a manifest."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from topwork.backbones.backbone import Backbone
from topwork.classifier.classifier import ImageClassifier
from topwork.features.pipeline import BadImage
from topwork.features.plan import Shard
from topwork.features.sharded import Progress, ShardedWork, ShardResult
from topwork.files import fingerprint
from topwork.prediction.resuming import digest_of_classifier
from topwork.prediction.rows import Wording
from topwork.prediction.writers import open_writer
from topwork.version import VERSION

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class AnswerParts:
    """Answers of a classifier, with the columns that `topwork predict --out answers.parquet` writes."""

    classifier: ImageClassifier
    wording: Wording
    suffix: ClassVar[str] = ".parquet"

    @property
    def backbone(self) -> Backbone:
        return self.classifier.backbone

    @cached_property
    def folder(self) -> str:
        """Named by all that answers depend on but for the images, so that parts of two classifiers never mix."""
        facts = {"classifier": digest_of_classifier(self.classifier), "topwork": VERSION}
        return f"parts-{fingerprint({**facts, 'unknown': self.wording.as_unknown})}"

    def content(self, shard: Shard, result: ShardResult) -> bytes:
        source, out = shard.source, io.BytesIO()
        names = tuple(source.name(row) for row in range(len(shard.keys)))
        predictions = self.classifier.predict_features(result.values, names, result.places, result.bad)
        with open_writer("parquet", out, self.classifier.class_names, self.wording) as writer:
            writer.write(predictions)
        return out.getvalue()

    def bad(self, content: Callable[[], bytes], head: Callable[[int], bytes]) -> tuple[BadImage, ...]:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        try:
            table = parquet.read_table(io.BytesIO(content()), columns=["image", "error"]).to_pylist()
        except pa.ArrowException as error:
            raise ValueError(str(error)) from error
        return tuple(BadImage(i, row["image"], row["error"]) for i, row in enumerate(table) if row["error"] is not None)


def write_manifest(work: ShardedWork, progress: Progress) -> None:
    """Say which parts belong together, once all are there: what lies beside them is of other lists of images."""
    manifest = {
        "images": work.plan.address,
        "n_images": progress.n_images,
        "parts": [{"part": work.key(shard), "n_images": len(shard.keys)} for shard in work.plan.shards()],
        "unreadable": [{"image": image.name, "reason": image.reason} for image in progress.bad],
    }
    work.store.put(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
