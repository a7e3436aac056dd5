"""A stranger's classifier: whatever was done to its files, it answers as before, or one sentence says what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

import topwork as tw
from helpers import make_photo
from topwork.errors import SavedFileError, TopworkError, WeightsError

Topwork = Callable[..., Any]
Values = dict[str, np.ndarray]


@pytest.fixture
def oak(digits_classifier: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(digits_classifier, tmp_path / "oak"))


def put(folder: Path, place: str, value: object) -> None:
    """Write `value` at a place such as `backbone.size` of the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    *way, last = place.split(".")
    target = manifest
    for key in way:
        target = target[key]
    target[last] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rewrite(folder: Path, name: str, change: Callable[[Values], object]) -> None:
    """Change the tensors of a file, and the checksum with them, as an attacker would."""
    tensors = load_file(folder / name)
    change(tensors)
    content = save(tensors)
    (folder / name).write_bytes(content)
    known = json.loads((folder / "manifest.json").read_text())["sha256"]
    put(folder, "sha256", {**known, name: hashlib.sha256(content).hexdigest()})


def refused_everywhere(topwork: Topwork, folder: Path, *parts: str) -> None:
    """`predict` and Python refuse it in one sentence that has `parts`."""
    photo = folder.parent / "photo.png"
    make_photo((120, 90, 40), 1).save(photo)
    answer = topwork("predict", folder, photo)
    assert answer.status == 1
    assert "Traceback" not in answer.err
    assert answer.out == ""
    for part in parts:
        assert part in answer.err
    with pytest.raises(TopworkError):
        tw.load_classifier(folder).predict([photo])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("format_version", -5),
        ("format_version", True),
        ("topwork", 3),
        ("backbone.size", "64"),
        ("backbone.size", 10**400),
        ("backbone.pooling", "none"),
        ("backbone.precision", ["f32"]),
        ("backbone.preprocessing", {}),
        ("class_names", "0123456789"),
        ("class_names", ["0"] * 10),
        ("class_names", [*"012345678", ""]),
        ("class_names", [*"012345678", 9]),
        ("sha256", {}),
        ("sha256", {"top.safetensors": "0" * 64}),
        ("sha256", {"backbone.safetensors": 1, "top.safetensors": 2}),
        ("training", "long"),
        ("training.n_train", "many"),
        ("training.top", "LinearTop"),
        ("training.temperature", -1.0),
        ("training.test_accuracy", {"value": "good"}),
        ("training.test_accuracy", {"value": 2, "low": 0, "high": 1, "n": 5}),
    ],
)
def test_what_a_manifest_must_not_say(topwork: Topwork, oak: Path, place: str, value: object) -> None:
    put(oak, place, value)
    refused_everywhere(topwork, oak, "manifest.json' is damaged: expected", place, "Copy the folder again")
    info = topwork("info", oak)
    assert info.status == 1
    assert place in info.err


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"format": "topwork-classifier", "x": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}",
        '{"format": "topwork-classifier", "topwork": "\\ud800"}',
        '{"format": "topwork-classifier", "format_version": NaN}',
        '{"format": "topwork-classifier", "format_version": 1e999}',
        '{"format": "topwork-classifier", "format_version": ' + "9" * 5000 + "}",
        "\xff",
        "",
    ],
)
def test_what_is_no_manifest(topwork: Topwork, oak: Path, text: str) -> None:
    (oak / "manifest.json").write_text(text, "latin-1")
    refused_everywhere(topwork, oak, "manifest.json'", "can't be read")


def fill(name: str, value: float) -> Callable[[Values], object]:
    def change(tensors: Values) -> None:
        tensors[name] = np.full_like(tensors[name], value)

    return change


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("top.safetensors", fill("dense_0/kernel", np.nan), "not finite"),
        ("top.safetensors", fill("dense_0/bias", np.inf), "not finite"),
        ("top.safetensors", lambda t: t.pop("dense_0/bias"), "kernel and a bias"),
        ("top.safetensors", lambda t: t.update(more=np.zeros(1, np.float32)), "kernel and a bias"),
        ("top.safetensors", lambda t: t.update({"dense_0/bias": np.zeros(10, np.int64)}), "float32"),
        ("top.safetensors", lambda t: t.update({"dense_0/bias": np.zeros(9, np.float32)}), "don't fit"),
        ("novelty.safetensors", fill("threshold", np.nan), "not finite"),
        ("novelty.safetensors", fill("spread", 0.0), "positive spreads"),
        ("novelty.safetensors", lambda t: t.update(threshold=np.zeros(0)), "Expected references"),
        ("novelty.safetensors", lambda t: t.update(references=np.zeros((0, 640), np.float16)), "references"),
        ("novelty.safetensors", lambda t: t.pop("centre"), "Expected references"),
        ("novelty.safetensors", lambda t: t.update(references=np.zeros((5, 3), np.float16)), "not of 640 features"),
        ("backbone.safetensors", lambda t: t.update({min(t): np.full_like(t[min(t)], np.nan)}), "not finite"),
        ("backbone.safetensors", lambda t: t.pop(min(t)), "doesn't fit"),
    ],
)
def test_tensors_that_no_classifier_has(
    topwork: Topwork, oak: Path, own_cache: Path, file: str, change: Callable[[Values], object], said: str
) -> None:
    rewrite(oak, file, change)
    refused_everywhere(topwork, oak, said)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are made by mkfifo")
@pytest.mark.parametrize("name", ["manifest.json", "top.safetensors", "backbone.safetensors"])
def test_a_named_pipe_or_an_endless_device_in_the_place_of_a_file(topwork: Topwork, oak: Path, name: str) -> None:
    (oak / name).unlink()
    os.mkfifo(oak / name)
    assert topwork("info", oak).status == 1
    refused_everywhere(topwork, oak)
    (oak / name).unlink()
    (oak / name).symlink_to("/dev/zero")
    assert topwork("info", oak).status == 1
    refused_everywhere(topwork, oak)


def test_weights_with_nan_are_refused_by_the_name_of_the_tensor(own_cache: Path, tmp_path: Path) -> None:
    from topwork.backbones.starter import starter_weights

    tensors = load_file(starter_weights())
    name = sorted(tensors)[4]
    tensors[name] = np.full_like(tensors[name], np.nan)
    (tmp_path / "weights.safetensors").write_bytes(save(tensors))
    backbone = tw.load_backbone("starter", weights=tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match=f"{name}.*not finite"):
        backbone.graph()


def test_random_bytes_changed_anywhere_change_no_answer_in_silence(oak: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    photo = tmp_path / "photo.png"
    make_photo((120, 90, 40), 1).save(photo)
    expected = tw.load_classifier(oak).predict_proba([photo])
    n_refused = 0
    for name in ("manifest.json", "top.safetensors", "novelty.safetensors"):
        whole = (oak / name).read_bytes()
        for _ in range(60):
            content = bytearray(whole)
            for place in random.integers(len(content), size=random.integers(1, 4)):
                content[place] = random.integers(256)
            (oak / name).write_bytes(content)
            try:
                found = tw.load_classifier(oak).predict_proba([photo])
            except SavedFileError:
                n_refused += 1
            else:
                assert np.array_equal(found, expected)
        (oak / name).write_bytes(whole)
    assert n_refused > 120


def test_a_run_folder_whose_other_files_were_spoilt(topwork: Topwork, photos: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    topwork("train", photos, "--size", "32", "--no-check", "--quiet", "--out", "run")
    images, record = Path("run/images.parquet"), Path("run/run.json")
    whole = images.read_bytes()
    table = parquet.read_table(images)
    for spoilt in (
        table.set_column(3, "digest", pa.array([None] * len(table), pa.binary())),
        table.set_column(3, "digest", pa.array(range(len(table)))),
        table.drop_columns(["digest"]),
        table.set_column(0, "image", pa.array([1.5] * len(table))),
    ):
        parquet.write_table(spoilt, images)
        answer = topwork("evaluate", "run", photos)
        assert answer.status == 1
        assert "images.parquet'" in answer.err
        assert "Copy the run folder again" in answer.err
        assert "Traceback" not in answer.err
    for content in (b"", b"PAR1" + bytes(50), whole[:-9], whole.replace(b"digest", b"dig\xffst")):
        images.write_bytes(content)
        answer = topwork("evaluate", "run", photos)
        assert answer.status == 1
        assert "Traceback" not in answer.err
    images.write_bytes(whole)
    for text in ("[]", "7", '{"data": "x"}', '{"data": {"origin": 5}}', "[" * 100_000):
        record.write_text(text)
        answer = topwork("export", "run", "--to", "openvino", "--out", "exported")
        assert answer.status == 1
        assert "Name some: --data" in answer.err
