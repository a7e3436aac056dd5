"""Answers kept beside a file while it is being made, so that a run that was cut short goes on where it stopped.

A folder `.NAME.part/` holds `facts.json`, all that the answers depend on, and numbered chunks of safetensors, each
written atomically: the probabilities whatever the file is to be, so that the same answers serve another format.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load, save

from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.predictions import Predictions, join_predictions
from topwork.data.decoding import digest_of
from topwork.data.sources import ArchiveImages, FileImages, ImageSource, JoinedImages, ObjectImages, ParquetImages
from topwork.errors import OptionError, StorageError
from topwork.features.extraction import feature_facts
from topwork.features.pipeline import BadImage
from topwork.files import atomic_file, fingerprint, one_at_a_time, printable, read_json, storage_errors, write_json
from topwork.kept import checksum, checksum_of_file, set_aside
from topwork.progress import Reporter
from topwork.tops.dense_stack import DenseStack
from topwork.version import VERSION

IMAGES_A_CHUNK = 1000
SECONDS_A_CHUNK = 10.0
"""A chunk is written when it has so many images, or so much time went into it, whichever is first."""
_FACTS, _WHOLE = "facts.json", "whole"


@contextlib.contextmanager
def open_kept(
    out: Path, classifier: ImageClassifier, source: ImageSource, facts: dict[str, Any], reporter: Reporter
) -> Iterator[KeptAnswers]:
    """The answers kept for the file `out`, by this process alone until the block ends.

    They are those of an earlier run where that had the same `facts` (see `answer_facts`), else none; `reporter` hears
    which.

    Raises:
        OptionError: another process is making the same file.
        StorageError: nothing can be written beside it.
    """
    folder = out.with_name(f".{out.name}.part")
    with contextlib.ExitStack() as stack:
        with storage_errors(folder):
            stack.enter_context(one_at_a_time(out, wait=False))
            folder.mkdir(parents=True, exist_ok=True)
            before = read_json(folder / _FACTS)
            if before != facts:
                _clear(folder, before, facts, reporter)
                write_json(folder / _FACTS, facts)
        kept = KeptAnswers(folder, source, classifier)
        if kept.n:
            reporter.note(f"{kept.n:,} of {len(source):,} images were answered before; going on from there.")
        yield kept


def _clear(folder: Path, before: dict[str, Any] | None, facts: dict[str, Any], reporter: Reporter) -> None:
    """Delete chunks that answer something else."""
    chunks = list(folder.glob("*.safetensors"))
    for path in chunks:
        path.unlink()
    if chunks:
        differs = [name for name in facts if before is None or before.get(name) != facts[name]]
        reporter.warning(
            f"answers kept in {printable(str(folder))!r} don't fit any more ({', '.join(differs)}); beginning anew."
        )


def answer_facts(classifier: ImageClassifier, source: ImageSource) -> dict[str, Any]:
    """All that the answers depend on, each under the words that say it changed."""
    return {
        "other Topwork": VERSION,
        "other classifier": digest_of_classifier(classifier),
        "other device": classifier.device,
        "other images": _digest_of_source(source),
    }


def digest_of_classifier(classifier: ImageClassifier) -> str:
    """Of all that its answers depend on, but for the images.

    Raises:
        OptionError: its top is one that can't be saved.
    """
    if not isinstance(classifier.top, DenseStack):
        raise OptionError("Only a classifier that can be saved can answer into a file; its top is not ours.")
    tensors = {f"top/{name}": values for name, values in classifier.top.tensors().items()}
    if classifier.novelty is not None:
        tensors |= {f"novelty/{name}": values for name, values in classifier.novelty.tensors().items()}
    digest = blake2b(digest_size=16)
    for name, values in sorted(tensors.items()):
        digest.update(f"{name}{values.shape}{values.dtype}".encode())
        digest.update(np.ascontiguousarray(values).data)
    facts = {"backbone": feature_facts(classifier.backbone), "class_names": classifier.class_names}
    return fingerprint({**facts, "tensors": digest.hexdigest()})


def _digest_of_source(source: ImageSource) -> str:
    """Of the images' names, and of what tells whether a file is still the same."""
    digest = blake2b(digest_size=16)
    for part in source.parts if isinstance(source, JoinedImages) else (source,):
        if isinstance(part, FileImages):
            digest.update(f"files {len(part)} {part.root}\0".encode("utf-8", "surrogateescape"))
            for path in part.paths:
                digest.update(_state_of_file(path))
        elif isinstance(part, ObjectImages):
            digest.update(f"objects {part.prefix.address}\0".encode("utf-8", "surrogateescape"))
            digest.update("\0".join([*part.keys, *part.marks]).encode("utf-8", "surrogateescape"))
        elif isinstance(part, ParquetImages):
            digest.update(f"table {len(part)} {part.column}\0".encode("utf-8", "surrogateescape"))
            digest.update(_state_of_file(part.path))
        elif isinstance(part, ArchiveImages):
            digest.update(f"archive {len(part)} {part.root}\0".encode("utf-8", "surrogateescape"))
            digest.update(_state_of_file(part.archive.path))
        else:
            for row, payload in enumerate(part.payloads(np.arange(len(part)))):
                digest.update(part.name(row).encode() + b"\0" + digest_of(payload))
    return digest.hexdigest()


def _state_of_file(path: str | Path) -> bytes:
    try:
        state = os.stat(path)
    except OSError:
        return os.fsencode(path) + b"\0-\0"
    return os.fsencode(path) + f"\0{state.st_size} {state.st_mtime_ns}\0".encode()


class KeptAnswers:
    """The answers that are kept for a file, in order from the first image on; `open_kept` makes it.

    Attributes:
        n: how many images are answered.
    """

    def __init__(self, folder: Path, source: ImageSource, classifier: ImageClassifier) -> None:
        self._folder, self._source, self._classifier = folder, source, classifier
        self._chunks: list[tuple[int, Path]] = []
        self.n = 0
        there = {int(path.stem.split("-")[0]): path for path in folder.glob("*-*-*.safetensors")}
        while self.n in there:
            path = there[self.n]
            if checksum_of_file(path) != path.stem.split("-")[2]:
                set_aside(path)
                break
            self._chunks.append((self.n, path))
            self.n = int(path.stem.split("-")[1])

    def take(self, slices: Iterable[Predictions]) -> None:
        """Keep the answers of `slices`, which begin at image `n`, chunk by chunk as they come."""
        waiting: list[Predictions] = []
        since = time.monotonic()
        for predictions in slices:
            waiting.append(predictions)
            n_waiting = sum(len(part.names) for part in waiting)
            if n_waiting >= IMAGES_A_CHUNK or time.monotonic() - since >= SECONDS_A_CHUNK:
                self._add(join_predictions(waiting))
                waiting, since = [], time.monotonic()
        if waiting:
            self._add(join_predictions(waiting))

    def slices(self) -> Iterator[Predictions]:
        """All that is kept, in order, read when asked for.

        Raises:
            StorageError: a chunk can't be read.
        """
        for first, path in self._chunks:
            try:
                yield self._read(first, path)
            except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
                raise StorageError(
                    f"Answers kept in {printable(str(path))!r} can't be read: {error}. Delete it and run again."
                ) from error

    @property
    def whole(self) -> Path:
        """Where the file is put together: on the disk it belongs on."""
        return self._folder / _WHOLE

    def discard(self) -> None:
        """Delete them."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _add(self, predictions: Predictions) -> None:
        bad = json.dumps([[image.index, image.reason] for image in predictions.bad]).encode()
        tensors = {
            "indices": predictions.indices,
            "probabilities": predictions.probabilities,
            "bad": np.frombuffer(bad, np.uint8),
        }
        if predictions.novelty is not None:
            tensors["novelty"] = predictions.novelty
        end = self.n + len(predictions.names)
        content = save(tensors)
        path = self._folder / f"{self.n:012d}-{end:012d}-{checksum(content)}.safetensors"
        with atomic_file(path) as file:
            file.write(content)
        self._chunks.append((self.n, path))
        self.n = end

    def _read(self, first: int, path: Path) -> Predictions:
        tensors = load(path.read_bytes())
        names = tuple(self._source.name(row) for row in range(first, int(path.stem.split("-")[1])))
        reasons = json.loads(tensors["bad"].tobytes())
        bad = tuple(BadImage(index, names[index], reason) for index, reason in reasons)
        indices, probabilities, novelty = tensors["indices"], tensors["probabilities"], tensors.get("novelty")
        threshold = None if self._classifier.novelty is None else self._classifier.novelty.threshold
        return Predictions(names, indices, probabilities, bad, self._classifier.class_names, novelty, threshold)
