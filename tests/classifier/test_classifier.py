"""A classifier is one thing: it answers for paths, images and arrays alike, and saved it answers the same elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

import topwork as tw
import topwork.classifier.classifier as classifier_module
from helpers import make_photos
from topwork import memory
from topwork.classifier.predictions import join_predictions
from topwork.data.sources import EncodedImage, FileImages
from topwork.data.splits import deal_folds, find_units
from topwork.errors import BadImageError, OptionError, SavedFileError, ShapeError
from topwork.features.extraction import feature_facts
from topwork.features.store import open_kept
from topwork.progress import Reporter


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", n=20)


@pytest.fixture(scope="module")
def dataset(photos: Path) -> tw.ImageDataset:
    return tw.ImageDataset.from_directory(photos)


@pytest.fixture(scope="module")
def classifier(dataset: tw.ImageDataset) -> tw.ImageClassifier:
    return tw.fit_classifier(dataset, top=tw.MLPTop(class_layers=[16], epochs=30), seed=0, verbose=False)


def test_it_learns_what_there_is_to_learn(classifier: tw.ImageClassifier, dataset: tw.ImageDataset) -> None:
    evaluation = tw.evaluate(classifier, dataset.test)
    assert evaluation.n == len(dataset.test)
    assert evaluation.accuracy.value > 0.9


def test_paths_pictures_and_arrays_get_the_same_answer(classifier: tw.ImageClassifier, photos: Path) -> None:
    paths = [photos / "ash" / "0.png", photos / "cedar" / "2.png"]
    pictures = [Image.open(path) for path in paths]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    expected = classifier.predict_proba(paths)
    for images in (
        [str(path) for path in paths],
        [path.read_bytes() for path in paths],
        pictures,
        arrays,
        list(arrays),
    ):
        assert np.allclose(classifier.predict_proba(images), expected, rtol=0, atol=1e-6)
    assert classifier.predict(paths).tolist() == ["ash", "cedar"]
    for picture in pictures:
        picture.close()


def test_bad_image_is_named_with_its_path(classifier: tw.ImageClassifier, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(BadImageError, match=r"text.jpg'?: not a JPEG"):
        classifier.predict([photos / "ash" / "0.png", tmp_path / "text.jpg"])


def test_a_stream_answers_in_order_and_from_the_middle_as_from_the_start(
    classifier: tw.ImageClassifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_module, "BATCHES_AT_ONCE", 1)
    (tmp_path / "bad.png").write_bytes(b"")
    paths = [str(path) for path in sorted(photos.rglob("*.*"))]
    paths[5:5] = [str(tmp_path / "bad.png")] * 20  # a whole slice of them
    source = FileImages(tuple(paths))
    whole = classifier.predict_source(source)
    assert whole.names == tuple(paths)
    assert [image.index for image in whole.bad] == list(range(5, 25))
    step = classifier.engine.batch_size
    for first in range(0, len(paths), step):
        rest = join_predictions(list(classifier.stream(source, first=first)))
        assert rest.names == tuple(paths[first:])
        assert np.array_equal(rest.indices + first, whole.indices[whole.indices >= first])
        assert np.array_equal(rest.probabilities, whole.probabilities[whole.indices >= first])
    assert classifier.predict_source(FileImages(())).probabilities.shape == (0, 3)


def test_scaled_pixels_are_refused(classifier: tw.ImageClassifier) -> None:
    with pytest.raises(ShapeError, match="Don't scale pixels yourself"):
        classifier.predict(np.zeros((1, 64, 64, 3), np.float32))


def test_saved_it_answers_the_same_in_a_new_process_with_an_empty_cache(
    classifier: tw.ImageClassifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier.save(tmp_path / "oak")
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "elsewhere"))
    path = photos / "birch" / "4.png"
    script = (
        "import sys, json, topwork as tw; "
        "print(json.dumps(tw.load_classifier('oak').predict_proba([sys.argv[1]]).tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert np.allclose(json.loads(done.stdout), classifier.predict_proba([path]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_same_inputs_and_seed_give_the_same_file(dataset: tw.ImageDataset, tmp_path: Path, flip: bool) -> None:
    for name in ("one", "two"):
        top = tw.MLPTop(class_layers=[8], epochs=3)
        tw.fit_classifier(dataset, top=top, flip=flip, seed=3, verbose=False).save(tmp_path / name)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_scikit_learns_classifiers_are_tops(dataset: tw.ImageDataset, tmp_path: Path) -> None:
    logistic = tw.fit_classifier(dataset, top=LogisticRegression(max_iter=500), verbose=False)
    forest = tw.fit_classifier(dataset, top=RandomForestClassifier(30), seed=1, verbose=False)
    assert tw.evaluate(logistic, dataset.test).accuracy.value > 0.9
    assert tw.evaluate(forest, dataset.test).accuracy.value > 0.8
    logistic.save(tmp_path / "logistic")
    images = dataset.test
    expected = logistic.predict_dataset(images).probabilities
    assert np.allclose(tw.load_classifier(tmp_path / "logistic").predict_dataset(images).probabilities, expected)
    assert forest.predict_source(EncodedImage(b"", "empty")).probabilities.shape == (0, 3)
    with pytest.raises(SavedFileError, match="RandomForestClassifier can't be saved without pickle"):
        forest.save(tmp_path / "logistic")
    assert tw.load_classifier(tmp_path / "logistic").class_names == logistic.class_names, (
        "a refusal must not cost the old"
    )


def test_binary_logistic_regression_equals_scikit_learn(photos: Path) -> None:
    dataset = tw.ImageDataset.from_directory(photos, ignore_classes=["ash"])
    classifier = tw.fit_classifier(dataset, top=LogisticRegression(max_iter=500), verbose=False)
    assert classifier.training is not None
    features = classifier.training.features.values
    expected = classifier.training.top.predict_proba(features)
    assert np.allclose(classifier.top.probabilities(features), expected, atol=1e-5)


def test_test_images_are_never_fitted_on() -> None:
    """A perfect memory on random labels: it may know every training image, and must fail on the test images."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (120, 16, 16, 3), dtype=np.uint8)
    sides = ["train"] * 90 + ["validation"] * 30  # no test side: it's taken from train
    dataset = tw.ImageDataset.from_arrays(images, random.integers(0, 2, 120), splits=sides)
    classifier = tw.fit_classifier(dataset, top=tw.LinearTop(l2=1e-6), verbose=False)
    assert classifier.training is not None
    assert classifier.training.n_train == len(dataset.train)
    assert tw.evaluate(classifier, dataset.train).accuracy.value > 0.95
    assert tw.evaluate(classifier, dataset.test).accuracy.value < 0.85


def test_training_images_alone_are_flipped_and_cost_their_share(dataset: tw.ImageDataset, own_cache: Path) -> None:
    plain = tw.fit_classifier(dataset, seed=0, verbose=False).training
    classifier = tw.fit_classifier(dataset, flip=True, seed=0, verbose=False)
    flipped = classifier.training
    assert plain is not None
    assert flipped is not None
    n_train = len(dataset.train)
    assert (plain.n_extracted, plain.n_flipped) == (len(dataset), 0)
    assert (flipped.n_extracted, flipped.n_flipped) == (n_train, n_train)
    kept = open_kept(feature_facts(classifier.backbone, flip=True))
    assert kept is not None
    assert set(dataset.digests[kept.find(dataset.digests) >= 0]) == set(dataset.train.digests)
    assert (flipped.n_train, flipped.n_validation) == (plain.n_train, plain.n_validation)
    assert flipped.features.fingerprint == plain.features.fingerprint
    assert classifier.record["n_flipped"] == n_train
    again = tw.fit_classifier(dataset, flip=True, top=tw.MLPTop(epochs=2), verbose=False).training
    assert again is not None
    assert again.n_extracted == 0


def test_the_top_is_fitted_on_both_views_of_training_images(dataset: tw.ImageDataset) -> None:
    classifier = tw.fit_classifier(dataset, flip=True, top=tw.LinearTop(class_weight="balanced"), verbose=False)
    views = [tw.extract_features(dataset.train, classifier.backbone, flip=flip).values for flip in (False, True)]
    X_val = tw.extract_features(dataset.validation, classifier.backbone).values
    labels = np.tile(dataset.train.labels, 2)
    top = tw.LinearTop(class_weight="balanced")
    # an image, its mirror image and its copies are held out together
    sides = dataset.with_splits.splits
    images = np.concatenate([np.flatnonzero(sides == side) for side in ("train", "train", "validation")])
    folds = deal_folds(dataset.labels[images], find_units(dataset.digests[images]), 5)
    top.fit(np.concatenate(views), labels, X_val=X_val, y_val=dataset.validation.labels, folds=folds)
    assert classifier.training is not None
    held_out = classifier.training.held_out
    assert held_out is not None
    assert sorted(held_out.rows) == sorted(np.flatnonzero(sides != "test"))  # each once
    assert np.array_equal(classifier.training.top.stack_.kernels[0], top.stack_.kernels[0])
    neighbour = tw.fit_classifier(dataset, flip=True, top=KNeighborsClassifier(1), verbose=False)
    assert neighbour.training is not None
    assert neighbour.training.top.n_samples_fit_ == 2 * len(dataset.train) + len(dataset.validation)


def test_unreadable_images_are_not_flipped(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=20)
    for name in ("a", "b", "c", "d"):
        (photos / "ash" / f"{name}.png").write_bytes(name.encode())
    training = tw.fit_classifier(tw.ImageDataset.from_directory(photos), flip=True, verbose=False).training
    assert training is not None
    assert len(training.bad) == 4
    assert training.n_flipped == training.n_train


def test_a_top_without_probabilities_is_refused(dataset: tw.ImageDataset) -> None:
    with pytest.raises(OptionError, match="LinearSVC.*CalibratedClassifierCV"):
        tw.fit_classifier(dataset, top=LinearSVC(), verbose=False)


@pytest.fixture
def saved(classifier: tw.ImageClassifier, tmp_path: Path) -> Path:
    classifier.save(tmp_path / "oak")
    return tmp_path / "oak"


def test_saving_again_replaces_but_only_a_classifier(
    classifier: tw.ImageClassifier, saved: Path, tmp_path: Path
) -> None:
    classifier.save(saved)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(SavedFileError, match="holds something that isn't a classifier"):
        classifier.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def edit(saved: Path, **changes: object) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_written_by_a_newer_version(saved: Path) -> None:
    edit(saved, format_version=99, topwork="9.9")
    with pytest.raises(SavedFileError, match=r"written by a newer Topwork \(9.9, format 99\)"):
        tw.load_classifier(saved)


def test_changed_tensors_are_noticed(saved: Path) -> None:
    data = bytearray((saved / "top.safetensors").read_bytes())
    data[-1] ^= 1
    (saved / "top.safetensors").write_bytes(bytes(data))
    with pytest.raises(SavedFileError, match="wrong checksum"):
        tw.load_classifier(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": {"name": "../../etc/passwd"}},
        {"backbone": None},
        {"class_names": ["one"]},
        {"sha256": 7},
        {"training": 7},
    ],
)
def test_nonsense_in_the_manifest_is_one_clear_error(saved: Path, changes: dict[str, object]) -> None:
    edit(saved, **changes)
    with pytest.raises(SavedFileError, match="is damaged"):
        tw.load_classifier(saved)


def test_missing_file_and_no_json(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "half")
    (tmp_path / "half" / "top.safetensors").unlink()
    with pytest.raises(SavedFileError, match="is damaged"):
        tw.load_classifier(tmp_path / "half")
    (saved / "manifest.json").write_text("{")
    with pytest.raises(SavedFileError, match="can't be read"):
        tw.load_classifier(saved)


def test_a_class_without_readable_images_is_named(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", n=40)
    for i in range(40):
        (folder / "ash" / f"{i}.{'jpg' if i % 2 else 'png'}").unlink()
    for i in range(6):
        (folder / "ash" / f"{i}.png").write_bytes(b"broken" + bytes([i]))
    with pytest.raises(tw.TopworkError, match="Class 'ash' has no readable image to train on"):
        tw.fit_classifier(tw.ImageDataset.from_directory(folder), verbose=False)


@pytest.mark.parametrize("flip", [False, True])
def test_past_memory_it_warns_and_learns_the_same(
    dataset: tw.ImageDataset, photos: Path, monkeypatch: pytest.MonkeyPatch, flip: bool
) -> None:
    class Listener(Reporter):
        def warning(self, text: str) -> None:
            heard.append(text)

    heard: list[str] = []
    expected = tw.fit_classifier(dataset, flip=flip, reporter=Listener()).predict_proba([photos / "ash" / "0.png"])
    assert heard == []
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    found = tw.fit_classifier(dataset, flip=flip, reporter=Listener()).predict_proba([photos / "ash" / "0.png"])
    assert np.array_equal(found, expected)
    assert "it works from a file in" in heard[0]
