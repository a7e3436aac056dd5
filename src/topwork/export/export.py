"""Exporting a classifier: the file, the program that uses it, and the parity check, as one folder or not at all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from topwork.backbones.backbone import Backbone
from topwork.classifier.classifier import ImageClassifier
from topwork.data.dataset import as_payloads
from topwork.data.decoding import fine_enough
from topwork.errors import ExportError, OptionError
from topwork.export.formats import Format, find_format
from topwork.export.graph import InputShape, classifier_graph, save_graph, write_metadata
from topwork.export.keras_model import KerasJob, write_keras_model
from topwork.export.onnx_graph import OPSET, to_onnx
from topwork.export.parity import NOVELTY_TOLERANCE, PROGRAM, TOLERANCE, Answers, ParityResult, compare, run_program
from topwork.export.quantization import Int8Images, Int8Result, compare_accuracy, quantize
from topwork.files import (
    atomic_folder,
    fingerprint,
    holds_something_else,
    printable,
    sha256_of_file,
    write_json,
    write_tensors,
)
from topwork.recipe import PAD_COLOUR
from topwork.tops.answering import dense_top
from topwork.tops.dense_stack import DenseStack
from topwork.version import VERSION

FACTS = "export.json"
MOST_IMAGES = 1_024
"""At a time, in a file that fixes it."""


@dataclass(frozen=True)
class Export:
    """An export that passed the parity check.

    Attributes:
        folder: with the exported file, `use.py` and `export.json`.
        file: the exported file.
        n_bytes: of the exported file, and its weights where they lie beside it.
        parity: how its answers compare with Topwork's.
        int8: its accuracy beside Topwork's; None for a file in float32.
    """

    folder: Path
    file: Path
    n_bytes: int
    parity: ParityResult
    int8: Int8Result | None = None


def export_classifier(
    classifier: ImageClassifier,
    to: str,
    folder: str | Path,
    images: Sequence[Any],
    *,
    int8: Int8Images | None = None,
    unknown: bool = True,
    batch: int | None = None,
    size: int | None = None,
    opset: int | None = None,
) -> Export:
    """Write `classifier` as a file for other software, if it then answers `images` as Topwork does.

    The file takes upright uint8 RGB images `(B, H, W, 3)` and gives probabilities `(B, K)`; cutting, resizing and
    scaling happen inside. It computes in float32: a classifier in bf16 is compared as it answers in float32 too.
    Where the classifier tells unknown images, the file gives their scores `(B,)` as well.

    Args:
        classifier: with a top of dense layers.
        to: 'onnx', 'openvino', 'keras' or 'litert'.
        folder: where it goes; an export that is there is replaced, anything else refused.
        images: real ones, for the parity check: paths, encoded bytes, PIL images or uint8 arrays.
        int8: images to choose int8's ranges by, and to measure what it costs; None leaves the file in float32. In
            int8 probabilities differ, so the parity check compares the accuracy instead, on all of `int8.test`.
        unknown: whether scores of unknown images are in the file; they take features of up to 2,000 training images.
        batch: B, for runtimes that want it fixed; None leaves it open.
        size: H and W, for runtimes that want them fixed: the backbone's size. The file then takes squares that are
            framed already, which `use.py` does. None takes pictures of any size.
        opset: of ONNX, 13 to 21; None for 18.

    Raises:
        UnknownNameError: no such format.
        OptionError: int8 or opset in a format that doesn't have it; opset, batch or size out of range.
        EnvironmentProblem: an extra isn't installed.
        ExportError: the classifier can't be exported, or the file's predictions differ; nothing is delivered then.
        StorageError: the folder can't be written.
    """
    form, folder = find_format(to, int8=int8 is not None, opset=opset), Path(folder)
    shape = _checked_shape(batch, size, classifier.backbone)
    if form.name in ("keras", "litert") and not classifier.backbone.is_keras:
        raise ExportError(
            f"Keras does not build {classifier.backbone.name}, so there is no {form.name} file of it. Export to onnx "
            "or openvino."
        )
    if holds_something_else(folder, FACTS):
        raise ExportError(f"{printable(str(folder))!r} holds something that isn't an export. Choose another folder.")
    if classifier.backbone.precision != "f32":
        classifier = replace(classifier, backbone=replace(classifier.backbone, precision="f32"))
    if not unknown:
        classifier = replace(classifier, novelty=None)
    top, metadata = dense_top(classifier.top, "exported", ExportError), export_metadata(classifier, shape)
    model = _Model(classifier, top, metadata, int8, shape, opset or OPSET)
    payloads = tuple(as_payloads(list(images if int8 is None else int8.test)))
    predictions = classifier.predict_all(payloads)
    expected = Answers(predictions.probabilities, predictions.novelty)
    with atomic_folder(folder, replace=True) as staging:
        _WRITERS[form.name](model, staging)
        copy_program(form, staging)
        found = run_program(staging, payloads)
        parity = compare(form, expected, found, metadata["novelty_threshold"])
        accuracy = None
        if int8 is not None:
            accuracy = compare_accuracy(int8.labels, expected.probabilities, found.probabilities)
        elif not parity.is_passed:
            raise ExportError(_why_refused(form, parity))
        _write_facts(staging, form, model.metadata, parity, accuracy)
    n_bytes = sum(path.stat().st_size for path in folder.glob("model.*"))
    return Export(folder, folder / form.file, n_bytes, parity, accuracy)


def _checked_shape(batch: int | None, size: int | None, backbone: Backbone) -> InputShape:
    if batch is not None and not 1 <= batch <= MOST_IMAGES:
        raise OptionError(f"Expected batch to be 1 to {MOST_IMAGES:,} images at a time; got {batch}.")
    if size not in (None, backbone.size):
        raise OptionError(
            f"Expected size to be that of {backbone.name} here, {backbone.size}; got {size}. Pictures would be resized "
            "twice, and the file would answer otherwise than Topwork."
        )
    return InputShape(batch, size)


def _why_refused(form: Format, parity: ParityResult) -> str:
    scores = parity.largest_novelty_difference
    of_scores = "" if scores is None else f" and unknown scores by up to {scores:.2g} ({NOVELTY_TOLERANCE:g})"
    return (
        f"The predictions of the {form.name} file differ from Topwork's: probabilities by up to "
        f"{parity.largest_difference:.2g} ({TOLERANCE:g} is allowed){of_scores}, {parity.n_agree} of {parity.n_images} "
        f"images get the same class. Nothing was delivered. Try another format."
    )


@dataclass(frozen=True)
class _Model:
    """What the writers write."""

    classifier: ImageClassifier
    top: DenseStack
    metadata: dict[str, Any]
    int8: Int8Images | None
    shape: InputShape
    opset: int

    @property
    def metadata_strings(self) -> dict[str, str]:
        """For formats whose metadata are strings: as JSON."""
        return {key: _json(value) for key, value in self.metadata.items()}

    def graph(self) -> Any:
        """From pixels to probabilities and scores, in OpenVINO; ready for int8 where that is asked for."""
        backbone, novelty, for_int8 = self.classifier.backbone, self.classifier.novelty, self.int8 is not None
        return classifier_graph(
            backbone.graph(), backbone.recipe, self.top, novelty, shape=self.shape, for_int8=for_int8
        )

    def in_int8(self, graph: Any) -> Any:
        """`graph` as it is, or in int8 where that is asked for."""
        if self.int8 is None:
            return graph
        return quantize(graph, self.int8.calibration, self.classifier.backbone.recipe, self.shape)


def export_metadata(classifier: ImageClassifier, shape: InputShape) -> dict[str, Any]:
    """What the exported file says of itself: class names, how to read images, where it comes from; JSON-able."""
    backbone, novelty = classifier.backbone, classifier.novelty
    recipe = backbone.recipe
    provenance = {
        "topwork": VERSION,
        "backbone": {**backbone.facts(), "licence_of_weights": backbone.card.licence, "paper": backbone.card.paper},
        "training": classifier.record,
    }
    return {
        "class_names": list(classifier.class_names),
        "size": backbone.size,
        "fixed_batch": shape.batch,
        "fixed_size": shape.size,
        "decoded_at_least": fine_enough(recipe),
        "value_range": list(recipe.value_range or (0, 65535)),
        "recipe": {
            "frame": recipe.frame,
            "crop_thousandths": recipe.crop_thousandths,
            "filter": recipe.filter,
            "pad_colour": PAD_COLOUR,
        },
        "novelty_threshold": None if novelty is None else novelty.threshold,
        "provenance": provenance,
        "fingerprint": fingerprint(provenance),
    }


def copy_program(form: Format, folder: Path) -> None:
    """Put the program that uses the file beside it: one for all formats, with what runs this one in its midst."""
    whole, part = (
        resources.files(__package__).joinpath("programs", name).read_text("utf-8")
        for name in (PROGRAM, f"{form.name}.py")
    )
    whole = whole.replace("from model import facts, run\n", part.partition("\n\n")[2])
    (folder / PROGRAM).write_text(whole.replace("INSTALL", form.install), "utf-8")


def _write_facts(
    folder: Path, form: Format, metadata: dict[str, Any], parity: ParityResult, accuracy: Int8Result | None
) -> None:
    """Write `export.json`: what the file says of itself, its checksums, and what was measured."""
    files = {path.name: sha256_of_file(path) for path in sorted(folder.iterdir())}
    results = {"parity": parity.as_dict(), "int8": accuracy.as_dict() if accuracy else None}
    write_json(folder / FACTS, {"format": form.name, **metadata, "sha256": files, **results})


def _write_openvino(model: _Model, folder: Path) -> None:
    graph = model.in_int8(model.graph())
    write_metadata(graph, model.metadata_strings)
    save_graph(graph, folder / "model.xml")


def _write_onnx(model: _Model, folder: Path) -> None:
    doc = f"{len(model.classifier.class_names)} classes on {model.classifier.backbone.name}, by Topwork {VERSION}."
    made = model.in_int8(to_onnx(model.graph(), model.metadata_strings, doc, opset=model.opset))
    (folder / "model.onnx").write_bytes(made.SerializeToString())


def _write_keras(model: _Model, folder: Path) -> None:
    _write_by_keras(model, "keras", folder / "model.keras")
    _append(folder / "model.keras", {"topwork.json": _json(model.metadata)})


def _write_litert(model: _Model, folder: Path) -> None:
    _write_by_keras(model, "litert", folder / "model.tflite")
    labels = "".join(f"{name}\n" for name in model.classifier.class_names)  # what LiteRT's own tools look for
    _append(folder / "model.tflite", {"labels.txt": labels, "topwork.json": _json(model.metadata)})


def _write_by_keras(model: _Model, form: Any, out: Path) -> None:
    tensors = out.with_name("top.safetensors")
    backbone, novelty = model.classifier.backbone, model.classifier.novelty
    of_novelty = {} if novelty is None else {f"novelty/{name}": x for name, x in novelty.tensors().items()}
    write_tensors(tensors, {**model.top.tensors(), **of_novelty})
    files = str(backbone.weights.tensors), str(tensors)
    write_keras_model(KerasJob(backbone.spec, backbone.recipe, model.shape, *files, form, str(out)))
    tensors.unlink()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _append(path: Path, files: dict[str, str]) -> None:
    """Add files to an archive, or at the end of a LiteRT file, where its format keeps such."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


_WRITERS = {"onnx": _write_onnx, "openvino": _write_openvino, "keras": _write_keras, "litert": _write_litert}
