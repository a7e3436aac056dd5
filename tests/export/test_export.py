"""Exported files: they pass the parity check, say what they are, and work where Topwork is not."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topwork as tw
from helpers import COLOURS, encoded_dicom, make_photo, make_photos
from topwork.classifier.classifier import ImageClassifier
from topwork.data.decoding import read_square
from topwork.errors import EnvironmentProblem, ExportError, OptionError
from topwork.export import export as exporting
from topwork.export import quantization
from topwork.export.export import export_classifier
from topwork.export.formats import FORMATS
from topwork.export.graph import ANY_SHAPE, framed
from topwork.export.onnx_graph import to_onnx
from topwork.export.parity import TOLERANCE
from topwork.openvino_door import import_openvino
from topwork.recipe import Recipe
from topwork.tops.dense_stack import DenseStack
from topwork.tops.novelty import fit_novelty
from topwork.types import Frame

Topwork = Callable[..., object]
EXPORT_PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text("utf-8")


@pytest.fixture(scope="module")
def photos_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("export") / "photos", n=20)


@pytest.fixture(scope="module")
def classifier() -> ImageClassifier:
    """Two layers that were drawn, not trained: their probabilities are not all 0 and 1."""
    random = np.random.default_rng(0)
    shapes = ((640, 16), (16, 3))
    kernels = tuple(random.normal(0, 3 / rows**0.5, (rows, columns)).astype(np.float32) for rows, columns in shapes)
    top = DenseStack(kernels, (np.zeros(16, np.float32), np.array([0.1, 0.2, 0.3], np.float32)))
    photos = np.stack([np.asarray(make_photo(colour, 900 + i)) for i in range(10) for colour in COLOURS.values()])
    dataset = tw.ImageDataset.from_arrays(photos, ["photo"] * len(photos))
    features, rows = tw.extract_features(dataset, "starter").values, np.arange(len(photos))
    novelty = fit_novelty(features, rows, rows, top.logits(features))
    novelty = replace(novelty, threshold=2 * novelty.threshold)  # most of `images` shall pass
    return ImageClassifier(tw.load_backbone("starter"), top, tuple(COLOURS), novelty)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures much like those it was trained on, as cameras and people make them: larger, longer, turned, clear."""
    folder = tmp_path_factory.mktemp("images")
    for i, size in enumerate([(48, 40), (40, 41), (33, 90), (50, 50), (64, 64)]):
        make_photo((60 + 25 * i, 170 - 20 * i, 60), i, size).save(folder / f"{i}.jpg", quality=92)
    make_photo(COLOURS["ash"], 6).resize((600, 500)).save(folder / "large.jpg")
    turned = make_photo(COLOURS["cedar"], 7)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    clear = make_photo(COLOURS["birch"], 8).convert("RGBA")
    clear.putalpha(200)
    clear.save(folder / "clear.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def python_without_topwork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with all that this one has but Topwork."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    there = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "topwork" not in entry.name and entry.suffix != ".pth" and not (there / entry.name).exists():
            (there / entry.name).symlink_to(entry)
    python = folder / "bin" / "python"
    found = subprocess.run([python, "-c", "import topwork"], capture_output=True, text=True, check=False)
    assert "No module named 'topwork'" in found.stderr
    return python


def run_program(python: Path, folder: Path, *arguments: object, then: str = "") -> list[str]:
    """What the delivered program prints, its last words last; and then what Python prints of `then`."""
    script = (
        "import runpy, sys\n"
        "try:\n    runpy.run_path('use.py', run_name='__main__')\n"
        "except SystemExit as end:\n    print(end)\n"
        "exec(sys.stdin.read())"
    )
    done = subprocess.run(
        [python, "-c", script, *map(str, arguments)],
        input=then,
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def named_in(line: str) -> tuple[str, float]:
    shown = re.match(r".*?  (\w+)  ([\d.]+) %", line)
    assert shown is not None, line
    return shown[1], float(shown[2]) / 100


@pytest.mark.parametrize("name", list(FORMATS))
def test_exported_file_answers_as_topwork_does_where_topwork_is_not(
    name: str,
    classifier: ImageClassifier,
    images: list[Path],
    tmp_path: Path,
    python_without_topwork: Path,
) -> None:
    if any(importlib.util.find_spec(module) is None for module in FORMATS[name].modules):
        pytest.skip(f"the extra {FORMATS[name].extra!r} is not installed")
    done = export_classifier(classifier, name, tmp_path / "oak", images)
    assert done.parity.is_passed
    assert done.parity.n_agree == done.parity.n_agree_unknown == len(images)
    expected = classifier.predict_proba(images)
    is_known = classifier.predict(images, unknown="unknown") != "unknown"
    assert np.median(expected.max(axis=1)) < 0.99, "all probabilities are 0 and 1: nothing was compared"
    assert is_known[:3].tolist() == [True, True, False]
    facts = json.loads((tmp_path / "oak" / "export.json").read_text())
    assert facts["class_names"] == list(classifier.class_names)
    assert facts["parity"]["largest_difference"] == done.parity.largest_difference
    block = re.search(rf"^```py\n([^`]*{FORMATS[name].file}.*?)^```", EXPORT_PAGE, re.MULTILINE | re.DOTALL)
    assert block is not None, f"docs/export.md has no block of Python with {FORMATS[name].file}"
    assert len([line for line in block[1].splitlines() if line]) <= 11
    (tmp_path / "oak" / "image.jpg").write_bytes(images[-1].read_bytes())
    given = [images[0], "nothing.png", images[2], "--unknown", images[1]]
    printed = run_program(python_without_topwork, tmp_path / "oak", *given, then=block[1])
    assert printed[1].startswith("nothing.png  can't be read: ")
    assert printed[2] == f"{images[2]}  unknown"
    assert printed[4] == "1 of 4 pictures can't be read; they are named among the answers."
    found = [named_in(printed[0]), named_in(printed[3]), (printed[5].split()[0], float(printed[5].split()[1]))]
    for (called, probability), place in zip(found, (0, 1, len(images) - 1), strict=True):
        assert called == classifier.class_names[expected[place].argmax()]
        assert abs(probability - expected[place].max()) <= TOLERANCE


def test_every_format_has_a_writer_and_a_program() -> None:
    assert set(exporting._WRITERS) == set(FORMATS)
    programs = {path.stem for path in Path(exporting.__file__).with_name("programs").glob("*.py")}
    assert programs == {*FORMATS, "use"}


def test_unknown_of_a_file_that_cannot_tell_is_refused(
    classifier: ImageClassifier, images: list[Path], tmp_path: Path
) -> None:
    here = Path(sys.executable)
    export_classifier(classifier, "openvino", tmp_path / "oak", images[:1])
    assert run_program(here, tmp_path / "oak", images[2])[0].endswith("%   (unlike the training images)")
    whole = (tmp_path / "oak" / "model.bin").stat().st_size
    done = export_classifier(classifier, "openvino", tmp_path / "oak", images[:1], unknown=False)
    assert whole - (tmp_path / "oak" / "model.bin").stat().st_size >= 30 * 640 * 2  # its references, in 16 bits
    assert done.parity.n_agree_unknown is None
    assert run_program(here, tmp_path / "oak", images[2])[0].endswith("%")
    assert run_program(here, tmp_path / "oak", images[2], "--unknown") == ["2"]


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_onnx_of_other_opsets_answers_alike(
    opset: int, classifier: ImageClassifier, images: list[Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    done = export_classifier(classifier, "onnx", tmp_path / "oak", images, opset=opset)
    assert done.parity.n_agree == len(images)
    model = onnx.load(done.file)
    assert [row.version for row in model.opset_import] == [opset]
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("frame", ["crop", "pad", "squash"])
def test_fixed_shapes_take_what_the_program_frames(
    frame: Frame, classifier: ImageClassifier, images: list[Path], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    recipe = Recipe(64, frame=frame, crop=0.9 if frame == "crop" else 1.0)
    other = replace(classifier, backbone=replace(classifier.backbone, recipe=recipe))
    done = export_classifier(other, "onnx", tmp_path / "oak", images, batch=2, size=64)
    assert done.parity.largest_difference < 1e-5  # Pillow resizes here too
    session = onnxruntime.InferenceSession(done.file)
    assert session.get_inputs()[0].shape == [2, 64, 64, 3]
    assert [output.shape for output in session.get_outputs()] == [[2, 3], [2]]
    assert "Range" not in {node.op_type for node in pytest.importorskip("onnx").load(done.file).graph.node}


@pytest.mark.parametrize("name", ["openvino", "litert"])
def test_fixed_shapes_of_the_other_formats(
    name: str, classifier: ImageClassifier, images: list[Path], tmp_path: Path
) -> None:
    if any(importlib.util.find_spec(module) is None for module in FORMATS[name].modules):
        pytest.skip(f"the extra {FORMATS[name].extra!r} is not installed")
    done = export_classifier(classifier, name, tmp_path / "oak", images, batch=1, size=64)
    assert done.parity.largest_difference < 1e-5
    assert json.loads((tmp_path / "oak" / "export.json").read_text())["fixed_size"] == 64


def test_onnx_takes_any_size_and_any_batch_and_says_what_it_is(
    classifier: ImageClassifier, images: list[Path], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    done = export_classifier(classifier, "onnx", tmp_path / "oak", images[:2])
    session = onnxruntime.InferenceSession(done.file)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == list(classifier.class_names)
    provenance = json.loads(session.get_modelmeta().custom_metadata_map["provenance"])
    assert provenance["backbone"]["weights"] == classifier.backbone.weights.digest
    batch = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    found = session.run(None, {"image": batch})[0]
    assert found.shape == (3, 3)
    assert np.abs(found - classifier.predict_proba(batch)).max() < TOLERANCE


def test_openvino_file_holds_its_class_names(classifier: ImageClassifier, images: list[Path], tmp_path: Path) -> None:
    strange = replace(classifier, class_names=('a "b" <c>', "ümlaut\nline", "&amp;"))
    done = export_classifier(strange, "openvino", tmp_path / "oak", images[:1])
    found = import_openvino().Core().read_model(done.file).get_rt_info(["topwork", "class_names"])
    assert json.loads(found.astype(str)) == list(strange.class_names)


def square_model(recipe: Recipe) -> object:
    """The cutting and resizing alone, as float32."""
    ov = import_openvino()
    image = ov.opset13.parameter(ov.PartialShape([-1, -1, -1, 3]), np.uint8, name="image")
    image.output(0).set_names({"image"})
    pixels = ov.opset13.convert(framed(image, recipe), "f32")
    flat = ov.opset13.reshape(pixels, np.array([-1, recipe.size**2 * 3]), False)
    flat.output(0).set_names({"pixels"})
    return ov.Model([flat], [image], "square")


RECIPES = [
    *(Recipe(1), Recipe(32), Recipe(75), Recipe(32, crop=0.875), Recipe(75, crop=0.951, filter="bilinear")),
    *(Recipe(32, frame="squash"), Recipe(75, frame="squash", filter="bilinear")),
    *(Recipe(32, frame="pad"), Recipe(75, frame="pad", filter="bilinear"), Recipe(1, frame="pad")),
]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(RECIPES), st.integers(0, 99))
def test_squares_inside_the_graph_are_those_of_the_decoding(height: int, width: int, recipe: Recipe, seed: int) -> None:
    """But for near ties in rounding: Pillow sums in whole numbers, the graphs in float32.

    Noise is the worst case. Of 63,000 such pictures 350 had a pixel that differed by 2, or more than 0.4 % of the
    pixels that differed; 0.7 % was the most. The bilinear filter gives exact ties where a side is a whole number of
    times as long: up to 10 % of the pixels differ by one.
    """
    onnxruntime = pytest.importorskip("onnxruntime")
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = read_square(pixels, recipe, "x").ravel()
    model = square_model(recipe)
    session = onnxruntime.InferenceSession(to_onnx(model, {}, "").SerializeToString())
    compiled = import_openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for found in (session.run(None, {"image": pixels[None]})[0][0], compiled(pixels[None])[0][0]):
        difference = np.abs(found - expected)
        assert difference.max() <= 2
        assert difference.sum() <= max(4, (0.01 if recipe.filter == "bicubic" else 0.15) * len(expected))


def test_scans_pass_the_parity_check_as_pictures(classifier: ImageClassifier, tmp_path: Path) -> None:
    """`use.py` reads no DICOM: it is given the same values in a PNG."""
    pytest.importorskip("pydicom")
    recipe = replace(classifier.backbone.recipe, value_range=(0, 4095))
    scans = replace(classifier, backbone=replace(classifier.backbone, recipe=recipe))
    values = np.asarray(make_photo((200, 60, 40), 3).convert("L")).astype(np.uint16) * 16
    (tmp_path / "scan.dcm").write_bytes(encoded_dicom(values))
    done = export_classifier(scans, "openvino", tmp_path / "oak", [tmp_path / "scan.dcm", encoded_dicom(values[::-1])])
    assert done.parity.n_images == done.parity.n_agree == 2


def test_gate_delivers_nothing_that_answers_otherwise(
    classifier: ImageClassifier, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_classifier(classifier, "openvino", tmp_path / "oak", images)
    before = (tmp_path / "oak" / "model.bin").read_bytes()

    def wrong(model: exporting._Model, folder: Path) -> None:
        """As if the channels' order had been lost."""
        kernels = (np.roll(model.top.kernels[0], 1, axis=0), *model.top.kernels[1:])
        exporting._write_openvino(replace(model, top=replace(model.top, kernels=kernels)), folder)

    monkeypatch.setitem(exporting._WRITERS, "openvino", wrong)
    with pytest.raises(ExportError, match=r"differ from Topwork.* Nothing was delivered"):
        export_classifier(classifier, "openvino", tmp_path / "oak", images)
    assert (tmp_path / "oak" / "model.bin").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["oak"]


def test_a_file_that_cannot_be_run_is_not_delivered(
    classifier: ImageClassifier, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(exporting._WRITERS, "openvino", lambda _, folder: (folder / "model.xml").write_text("<net/>"))
    with pytest.raises(ExportError, match="could not be run"):
        export_classifier(classifier, "openvino", tmp_path / "oak", images)
    assert not (tmp_path / "oak").exists()


def test_int8_shows_what_it_costs_and_is_refused_beyond(
    topwork: Topwork, photos_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    topwork("train", photos_folder, "--quiet", "--test", "0.2")
    answer = topwork("export", "runs/photos-1", "--to", "openvino", "--int8")
    assert re.search(r"Test accuracy [\d.]+ % \(.*\) in float32, [\d.]+ % \(.*\) in int8", answer.out)
    folder = Path("runs/photos-1/exports/openvino-int8")
    facts = json.loads((folder / "export.json").read_text())
    assert facts["int8"]["accuracy_before"]["n"] == facts["parity"]["n_images"]
    assert (folder / "model.bin").stat().st_size < 2e6  # of 4 MB
    monkeypatch.setattr(quantization, "MOST_LOST", -1.0)
    refused = topwork("export", "runs/photos-1", "--to", "openvino", "--int8", "--out", "other")
    assert "Nothing was delivered" in refused.err
    assert not Path("other").exists()


def test_int8_files_compute_in_int8(tmp_path: Path) -> None:
    """Batch normalisations that are left beside their convolutions keep OpenVINO in float32."""
    pytest.importorskip("nncf")
    backbone = tw.load_backbone("mobilenet_v2", weights="random", size=32)
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.01, (1280, 2)).astype(np.float32)
    oak = ImageClassifier(backbone, DenseStack((kernel,), (np.zeros(2, np.float32),)), ("ash", "oak"))
    photos = [np.asarray(make_photo(COLOURS["ash"], seed)) for seed in range(4)]
    model = exporting._Model(oak, oak.top, {}, quantization.Int8Images(photos, photos, np.zeros(4, int)), ANY_SHAPE, 18)  # type: ignore[arg-type]
    exporting._write_openvino(model, tmp_path)
    compiled = (
        import_openvino().Core().compile_model(tmp_path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    )
    layers = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    kinds = [layer["runtimePrecision"].astype(str) for layer in layers if "Conv" in layer["layerType"].astype(str)]
    assert len(kinds) >= 52
    assert set(kinds) <= {"i8", "u8"}


def test_a_classifier_in_bf16_is_exported_in_float32(
    topwork: Topwork, photos_folder: Path, classifier: ImageClassifier
) -> None:
    replace(classifier, backbone=replace(classifier.backbone, precision="bf16")).save("quick")
    answer = topwork("export", "quick", "--to", "openvino", "--data", photos_folder, "--out", "there")
    assert answer.status == 0
    assert "computes in bf16, the file in float32" in answer.err
    facts = json.loads(Path("there/export.json").read_text())
    assert facts["provenance"]["backbone"]["precision"] == "f32"


def test_export_of_a_run_says_what_the_parity_check_saw(topwork: Topwork, photos_folder: Path) -> None:
    topwork("train", photos_folder, "--quiet")
    answer = topwork("export", "runs/photos-1", "--to", "openvino")
    assert answer.status == 0
    assert answer.out.startswith("runs/photos-1/exports/openvino/model.xml, 4.")
    assert re.search(r"Parity: (\d+) of \1 images get the same class from openvino", answer.out)
    assert "python runs/photos-1/exports/openvino/use.py IMAGE" in answer.out
    assert topwork("export", "runs/photos-1", "--to", "openvino").status == 0  # an export is replaced


def test_images_that_moved_are_asked_for_and_found_by_content(topwork: Topwork, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=20)
    topwork("train", "photos", "--quiet")
    photos.rename(tmp_path / "moved")
    for path in (tmp_path / "moved").rglob("*.*g"):
        path.rename(path.with_stem(f"renamed {path.stem}"))
    answer = topwork("export", "runs/photos-1", "--to", "openvino")
    assert answer.status == 1
    assert "looked for in 'photos'" in answer.err
    assert "--data" in answer.err
    assert topwork("export", "runs/photos-1", "--to", "openvino", "--data", "moved").status == 0
    other = make_photos(tmp_path / "other", n=4, seed=500)
    assert (
        "No image of the run can be read in"
        in topwork("export", "runs/photos-1", "--to", "openvino", "--data", other).err
    )


def test_classifier_alone_is_exported_with_images_that_are_named(topwork: Topwork, photos_folder: Path) -> None:
    topwork("train", photos_folder, "--quiet")
    Path("runs/photos-1/classifier").rename("lone")
    answer = topwork("export", "lone", "--to", "openvino")
    assert "doesn't say which images it was made from" in answer.err
    assert topwork("export", "lone", "--to", "openvino", "--data", photos_folder, "--out", "there").status == 0
    assert (
        "not a classifier alone" in topwork("export", "lone", "--to", "openvino", "--int8", "--data", photos_folder).err
    )


def test_a_folder_with_something_else_is_left_alone(topwork: Topwork, photos_folder: Path) -> None:
    topwork("train", photos_folder, "--quiet")
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    assert "isn't an export" in topwork("export", "runs/photos-1", "--to", "openvino", "--out", "mine").err
    assert Path("mine/letter.txt").read_text() == "dear"


def test_what_cannot_be_exported_is_said(
    classifier: ImageClassifier, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.naive_bayes import GaussianNB

    from topwork.tops.answering import SklearnTop

    with pytest.raises(ExportError, match="GaussianNB can't be exported"):
        export_classifier(replace(classifier, top=SklearnTop(GaussianNB())), "openvino", tmp_path / "x", images)
    with pytest.raises(OptionError, match="Did you mean 'onnx'"):
        export_classifier(classifier, "onxx", tmp_path / "x", images)
    nothing = quantization.Int8Images([], [], np.array([], int))
    for wrong, said in (
        ({"opset": 12}, "opset to be 13 to 21; got 12"),
        ({"batch": 0}, "batch to be 1 to 1,024 images at a time; got 0"),
        ({"size": 65}, "size to be that of starter here, 64; got 65. Pictures would be resized twice"),
    ):
        with pytest.raises(OptionError, match=said):
            export_classifier(classifier, "onnx", tmp_path / "x", images, **wrong)
    with pytest.raises(OptionError, match="opset is for onnx; openvino has none"):
        export_classifier(classifier, "openvino", tmp_path / "x", images, opset=17)
    with pytest.raises(OptionError, match="int8 is for onnx and openvino; keras is exported in float32"):
        export_classifier(classifier, "keras", tmp_path / "x", images, int8=nothing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'topwork\[onnx\]' \(onnx, onnxruntime not installed\)"):
        export_classifier(classifier, "onnx", tmp_path / "x", images)


def test_keras_and_litert_files_carry_their_facts(tmp_path: Path) -> None:
    for name in ("a.keras", "a.tflite"):
        (tmp_path / name).write_bytes(b"" if name.endswith("tflite") else b"PK\x05\x06" + bytes(18))
        exporting._append(tmp_path / name, {"topwork.json": "{}"})
        assert zipfile.ZipFile(tmp_path / name).read("topwork.json") == b"{}"
