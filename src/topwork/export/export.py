"""Exporting a classifier: the file, the program that uses it, and what the gate saw, as one folder or not at all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from topwork.classifier.classifier import ImageClassifier
from topwork.data.decoding import Payload
from topwork.errors import ExportError
from topwork.export.formats import Format, find_format
from topwork.export.gate import PROGRAM, GateResult, run_gate
from topwork.export.graph import classifier_graph, save_graph, write_metadata
from topwork.export.keras_model import KerasJob, write_keras_model
from topwork.export.onnx_graph import to_onnx
from topwork.files import atomic_folder, fingerprint, sha256_of_file, write_json
from topwork.tops.dense_stack import DenseStack
from topwork.version import VERSION

FACTS = "export.json"


@dataclass(frozen=True)
class Export:
    """An export that passed the gate.

    Attributes:
        folder: with the exported file, `use.py` and `export.json`.
        file: the exported file.
        n_bytes: of the exported file, and its weights where they lie beside it.
        gate: how its answers compare with Topwork's.
    """

    folder: Path
    file: Path
    n_bytes: int
    gate: GateResult


def export_classifier(classifier: ImageClassifier, to: str, folder: str | Path, images: Sequence[Payload]) -> Export:
    """Write `classifier` as a file for other software, if it then answers `images` as Topwork does.

    The file takes upright uint8 RGB images `(B, H, W, 3)` and gives probabilities `(B, K)`; cutting, resizing and
    scaling happen inside. LiteRT, which has no such filter, takes squares of the backbone's size.

    Args:
        classifier: with a top of dense layers.
        to: 'onnx', 'openvino', 'keras' or 'litert'.
        folder: where it goes; a folder that is there is replaced.
        images: real ones, for the gate: paths, encoded bytes, PIL images or uint8 arrays.

    Raises:
        UnknownNameError: no such format.
        EnvironmentProblem: an extra isn't installed.
        ExportError: the classifier can't be exported, or the file answers otherwise; nothing is delivered then.
        StorageError: the folder can't be written.
    """
    form = find_format(to)
    top = _dense_top(classifier)
    metadata = export_metadata(classifier)
    expected = classifier.predict_proba(list(images))
    folder = Path(folder)
    with atomic_folder(folder, replace=True) as staging:
        _WRITERS[form.name](classifier, top, metadata, staging)
        copy_program(form, staging)
        gate = run_gate(staging, images, expected, runtime=form.runtime, tolerance=form.tolerance)
        if not gate.is_passed:
            raise ExportError(
                f"The {form.name} file answers otherwise than Topwork: probabilities differ by up to "
                f"{gate.largest_difference:.2g} ({gate.tolerance:g} is allowed), {gate.n_agree} of {gate.n_images} "
                "images get the same class. Nothing was delivered. Try another format."
            )
        write_facts(staging, form, metadata, {"gate": gate.as_dict()})
    return finished_export(folder, form, gate)


def finished_export(folder: Path, form: Format, gate: GateResult) -> Export:
    """The export that now lies in `folder`."""
    n_bytes = sum(path.stat().st_size for path in folder.glob("model.*"))
    return Export(folder, folder / form.file, n_bytes, gate)


def export_metadata(classifier: ImageClassifier) -> dict[str, str]:
    """What the exported file says of itself: class names and input size, and where it comes from, as JSON."""
    backbone = classifier.backbone
    provenance = {
        "topwork": VERSION,
        "backbone": {**backbone.facts(), "licence_of_weights": backbone.card.licence, "paper": backbone.card.paper},
        "training": classifier.record,
    }
    return {
        "class_names": json.dumps(list(classifier.class_names), ensure_ascii=False),
        "size": str(backbone.size),
        "provenance": json.dumps(provenance, ensure_ascii=False),
        "fingerprint": fingerprint(provenance),
    }


def copy_program(form: Format, folder: Path) -> None:
    """Put the program that uses the file beside it."""
    source = resources.files(__package__).joinpath("programs", f"{form.name}.py").read_text("utf-8")
    (folder / PROGRAM).write_text(source, "utf-8")


def write_facts(folder: Path, form: Format, metadata: dict[str, str], results: dict[str, Any]) -> None:
    """Write `export.json`: the file's metadata, its checksums, and what was measured."""
    facts = {key: _plain(value) for key, value in metadata.items()}
    files = {path.name: sha256_of_file(path) for path in sorted(folder.iterdir())}
    write_json(folder / FACTS, {"format": form.name, **facts, "sha256": files, **results})


def _plain(value: str) -> Any:
    return json.loads(value) if value.startswith(("[", "{")) else value


def _dense_top(classifier: ImageClassifier) -> DenseStack:
    if not isinstance(classifier.top, DenseStack):
        kind = type(getattr(classifier.top, "estimator", classifier.top)).__name__
        raise ExportError(f"A {kind} can't be exported. LinearTop, MLPTop and LogisticRegression can be.")
    return classifier.top


def _write_openvino(classifier: ImageClassifier, top: DenseStack, metadata: dict[str, str], folder: Path) -> None:
    graph = classifier_graph(classifier.backbone.graph(), classifier.backbone.size, top)
    write_metadata(graph, metadata)
    save_graph(graph, folder / "model.xml")


def _write_onnx(classifier: ImageClassifier, top: DenseStack, metadata: dict[str, str], folder: Path) -> None:
    graph = classifier_graph(classifier.backbone.graph(), classifier.backbone.size, top)
    doc = f"{len(classifier.class_names)} classes on {classifier.backbone.name}, by Topwork {VERSION}."
    (folder / "model.onnx").write_bytes(to_onnx(graph, metadata, doc).SerializeToString())


def _write_keras(classifier: ImageClassifier, top: DenseStack, metadata: dict[str, str], folder: Path) -> None:
    _write_by_keras(classifier, top, folder, "keras", folder / "model.keras")
    _append(folder / "model.keras", {"topwork.json": json.dumps(metadata, ensure_ascii=False)})


def _write_litert(classifier: ImageClassifier, top: DenseStack, metadata: dict[str, str], folder: Path) -> None:
    _write_by_keras(classifier, top, folder, "litert", folder / "model.tflite")
    labels = "".join(f"{name}\n" for name in classifier.class_names)  # what LiteRT's own tools look for
    _append(folder / "model.tflite", {"labels.txt": labels, "topwork.json": json.dumps(metadata, ensure_ascii=False)})


def _write_by_keras(classifier: ImageClassifier, top: DenseStack, folder: Path, form: Any, out: Path) -> None:
    tensors = folder / "top.safetensors"
    save_file(top.tensors(), tensors)
    backbone = classifier.backbone
    write_keras_model(KerasJob(backbone.spec, str(backbone.weights.tensors), str(tensors), form, str(out)))
    tensors.unlink()


def _append(path: Path, files: dict[str, str]) -> None:
    """Add files to an archive, or at the end of a LiteRT file, where its format keeps such."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


_WRITERS = {"onnx": _write_onnx, "openvino": _write_openvino, "keras": _write_keras, "litert": _write_litert}
