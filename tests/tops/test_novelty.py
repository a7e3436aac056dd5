"""Images unlike the training images are told from those like them, and what is saved says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import topwork as tw
from topwork.errors import SavedFileError
from topwork.tops.novelty import Novelty, fit_novelty


def blobs(random: np.random.Generator, n: int, first: int) -> np.ndarray:
    """Examples around five centres, each along another axis, from axis `first` on."""
    centres = 6 * np.eye(20)[first + random.integers(0, 5, n)]
    return (random.normal(0, 1, (n, 20)) + centres).astype(np.float32)


def of_blobs(random: np.random.Generator, n: int) -> Novelty:
    """Of examples each held out in its turn, with energies that are noise."""
    return fit_novelty(blobs(random, n, 0), np.arange(n), np.arange(n), random.normal(0, 1, (n, 3)))


@pytest.mark.parametrize("n", [40, 400])
def test_few_images_hold_the_promised_share_too(n: int) -> None:
    shares = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        novelty = of_blobs(random, n)
        shares.append(np.mean(novelty.scores(blobs(random, 200, 0), random.normal(0, 1, (200, 3))) > novelty.threshold))
    assert 0.03 < np.mean(shares) < 0.07


def test_copies_are_no_neighbours_of_each_other() -> None:
    """Every image is there eleven times: a copy of an image that is new is not to be expected."""
    random = np.random.default_rng(0)
    X, logits = np.repeat(blobs(random, 100, 0), 11, axis=0), np.zeros((1100, 3))
    rows = np.arange(1100)
    near, apart = fit_novelty(X, rows, rows, logits), fit_novelty(X, rows // 11, rows, logits)
    assert near.centre[0] < 1e-3  # rounding to 16 bits
    assert apart.centre[0] > 0.05


def test_strange_features_score_high_and_a_twentieth_of_known_ones_is_refused() -> None:
    random = np.random.default_rng(0)
    novelty = of_blobs(random, 3000)
    known = novelty.scores(blobs(random, 2000, 0), random.normal(0, 1, (2000, 3)))
    strange = novelty.scores(blobs(random, 2000, 10), random.normal(0, 1, (2000, 3)))
    assert 0.03 < np.mean(known > novelty.threshold) < 0.08
    # the energies are noise here, so the distances alone tell
    assert roc_auc_score(np.repeat([0, 1], 2000), np.concatenate([known, strange])) > 0.8
    assert len(novelty.references) == 2000  # of 3,000


def test_tensors_give_the_same_scores() -> None:
    random = np.random.default_rng(0)
    novelty = of_blobs(random, 100)
    again = Novelty.from_tensors(novelty.tensors())
    features, logits = blobs(random, 10, 0), random.normal(0, 1, (10, 3))
    assert np.array_equal(again.scores(features, logits), novelty.scores(features, logits))
    assert again.threshold == novelty.threshold
    assert again.fits(20)
    assert not again.fits(21)


def test_digits_left_out_of_training_are_strange(tmp_path: Path) -> None:
    """Eight digits are learned; the other two are told from them far better than by chance."""
    dataset = tw.ImageDataset.from_name("digits")
    known = dataset.select(np.isin(dataset.labels, range(8)))
    known = tw.ImageDataset.from_arrays(list(known.source.payloads(known.rows)), [str(label) for label in known.labels])
    classifier = tw.fit_classifier(known, seed=0, verbose=False)
    classifier.save(tmp_path / "saved")
    loaded = tw.load_classifier(tmp_path / "saved")
    strange = dataset.select(dataset.labels >= 8)
    scores = [loaded.predict_dataset(part).novelty for part in (known.test, strange)]
    assert roc_auc_score(np.repeat([0, 1], [len(s) for s in scores]), np.concatenate(scores)) > 0.85
    images = list(strange.source.payloads(strange.rows[:50]))
    assert np.mean(loaded.predict(images, unknown="?") == "?") > 0.3
    assert "?" not in loaded.predict(images)
    assert np.mean(loaded.predict_dataset(known.test).is_unknown) < 0.15


def test_novelty_of_other_features_is_refused(tmp_path: Path) -> None:
    import json

    from safetensors.numpy import save_file

    from topwork.files import sha256_of_file

    dataset = tw.ImageDataset.from_name("digits")
    tw.fit_classifier(dataset.select(dataset.rows < 600), verbose=False).save(tmp_path / "saved")
    random = np.random.default_rng(0)
    other = of_blobs(random, 100)
    save_file(other.tensors(), tmp_path / "saved" / "novelty.safetensors")
    manifest = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    manifest["sha256"]["novelty.safetensors"] = sha256_of_file(tmp_path / "saved" / "novelty.safetensors")
    (tmp_path / "saved" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SavedFileError, match="is not of 640 features"):
        tw.load_classifier(tmp_path / "saved")
