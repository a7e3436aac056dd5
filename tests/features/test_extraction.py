"""Features are computed once an image; every fact they depend on is in their key; bad images are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import topwork as tw
from helpers import make_photo, make_photos
from topwork.backbones.backbone import Backbone
from topwork.data.decoding import read_square
from topwork.errors import BadImageError, OptionError, TooManyBadImagesError
from topwork.features.extraction import feature_facts
from topwork.files import fingerprint
from topwork.progress import Task
from topwork.recipe import Recipe


@pytest.fixture(scope="module")
def starter() -> Backbone:
    return tw.load_backbone("starter")


def test_a_backbone_may_be_named(photos: Path, starter: Backbone, own_cache: Path) -> None:
    dataset = tw.ImageDataset.from_directory(photos)
    named, loaded = (tw.extract_features(dataset, backbone) for backbone in ("starter", starter))
    assert (named.fingerprint, loaded.n_extracted) == (loaded.fingerprint, 0)
    with pytest.raises(OptionError, match="a backbone, by name or as from load_backbone; got Card"):
        tw.extract_features(dataset, starter.card)


def test_second_time_does_no_backbone_work(photos: Path, starter: Backbone, own_cache: Path) -> None:
    first = tw.extract_features(tw.ImageDataset.from_directory(photos), starter)
    second = tw.extract_features(tw.ImageDataset.from_directory(photos), starter)
    assert (first.n_extracted, second.n_extracted) == (36, 0)
    assert np.array_equal(first.values, second.values)


def test_new_images_alone_are_computed(photos: Path, starter: Backbone, own_cache: Path) -> None:
    tw.extract_features(tw.ImageDataset.from_directory(photos), starter)
    make_photo((9, 9, 9), 77).save(photos / "ash" / "new.png")
    assert tw.extract_features(tw.ImageDataset.from_directory(photos), starter).n_extracted == 1


def test_copies_are_computed_once(photos: Path, starter: Backbone, own_cache: Path) -> None:
    (photos / "birch" / "copy.png").write_bytes((photos / "ash" / "0.png").read_bytes())
    features = tw.extract_features(tw.ImageDataset.from_directory(photos), starter)
    assert features.n_extracted == 36
    assert len(features.values) == 37


def test_same_image_has_the_same_vector_alone_and_in_any_batch(
    photos: Path, starter: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = tw.ImageDataset.from_directory(photos)
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "one"))
    together = tw.extract_features(dataset, starter).values
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "two"))
    alone = [tw.extract_features(dataset.select(np.array([i])), starter).values[0] for i in range(36)]
    assert np.allclose(together, alone, rtol=0, atol=1e-5 * np.abs(together).max())  # float32, other order of sums


def test_changed_bytes_are_not_served_stale(photos: Path, starter: Backbone, own_cache: Path) -> None:
    before = tw.extract_features(tw.ImageDataset.from_directory(photos), starter)
    make_photo((0, 0, 0), 123).save(photos / "ash" / "0.png")
    after = tw.extract_features(tw.ImageDataset.from_directory(photos), starter)
    assert after.n_extracted == 1
    assert np.abs(after.values[0] - before.values[0]).max() > 0.01


@pytest.mark.parametrize(
    "change",
    [
        *({"recipe": Recipe(96)}, {"recipe": Recipe(64, (0, 1))}, {"recipe": Recipe(64, frame="pad")}),
        *({"recipe": Recipe(64, crop=0.875)}, {"recipe": Recipe(64, filter="bilinear")}),
        {"pooling": "max"},
        {"precision": "bf16"},
        {"weights": "digest"},
        {"card": "preprocessing"},
    ],
)
def test_every_fact_is_in_the_key(starter: Backbone, change: dict[str, object]) -> None:
    if "weights" in change:
        change = {"weights": replace(starter.weights, digest="another")}
    if "card" in change:
        other = replace(starter.card.preprocessing, offset=(0.0, 0.0, 0.0))
        change = {"card": replace(starter.card, preprocessing=other)}
    changed = replace(starter, **change)  # type: ignore[arg-type]
    assert fingerprint(feature_facts(changed)) != fingerprint(feature_facts(starter))


def test_flipped_views_are_those_of_mirror_images(photos: Path, starter: Backbone, own_cache: Path) -> None:
    dataset = tw.ImageDataset.from_directory(photos)
    squares = [read_square(Path(dataset.source.paths[row]), Recipe(starter.size), "") for row in dataset.rows]
    mirrored = tw.ImageDataset.from_arrays(np.stack(squares)[:, :, ::-1], dataset.labels)
    flipped = tw.extract_features(dataset, starter, flip=True).values
    expected = tw.extract_features(mirrored, starter).values
    assert np.allclose(flipped, expected, rtol=0, atol=1e-5 * np.abs(expected).max())  # float32, other order of sums
    assert np.abs(flipped - tw.extract_features(dataset, starter).values).max() > 0.01


def test_flipped_views_are_kept_beside_the_plain_ones(photos: Path, starter: Backbone, own_cache: Path) -> None:
    dataset = tw.ImageDataset.from_directory(photos)
    plain = tw.extract_features(dataset, starter)
    flipped = tw.extract_features(dataset, starter, flip=True)
    assert flipped.n_extracted == plain.n_extracted == 36
    assert flipped.fingerprint == fingerprint(feature_facts(starter, flip=True)) != plain.fingerprint
    for flip, first in ((False, plain), (True, flipped)):
        again = tw.extract_features(dataset, starter, flip=flip)
        assert again.n_extracted == 0
        assert np.array_equal(again.values, first.values)


def test_stopped_midway_flipped_views_go_on_there(
    photos: Path, starter: Backbone, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(task: Task, n: int = 1) -> None:
        raise KeyboardInterrupt

    dataset = tw.ImageDataset.from_directory(photos)
    assert len(dataset.digests) == 36
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Task, "advance", stop)  # after the first batch
        tw.extract_features(dataset, starter, flip=True)
    assert 0 < tw.extract_features(dataset, starter, flip=True).n_extracted < 36


def test_starter_golden_vector(starter: Backbone, own_cache: Path) -> None:
    """A change of the starter's weights, its preprocessing or the decoding fails here; then say so in CHANGELOG."""
    golden = np.load(Path(__file__).parent / "starter_golden.npy")
    values = tw.FeatureExtractor("starter").transform([make_photo((200, 60, 40), 3, (90, 70))])
    assert np.allclose(values[0], golden, rtol=0, atol=1e-4 * np.abs(golden).max())  # other processors, other sums


def test_bad_images_are_named_and_counted_and_the_rest_is_done(
    tmp_path: Path, starter: Backbone, own_cache: Path
) -> None:
    photos = make_photos(tmp_path / "photos")
    (photos / "ash" / "empty.png").write_bytes(b"")
    (photos / "birch" / "empty too.png").write_bytes(b"")
    (photos / "cedar" / "text.jpg").write_bytes(b"hello")
    dataset = tw.ImageDataset.from_directory(photos)
    features = tw.extract_features(dataset, starter)
    assert sorted(image.name for image in features.bad) == ["ash/empty.png", "birch/empty too.png", "cedar/text.jpg"]
    assert [dataset.names[image.index] for image in features.bad] == [image.name for image in features.bad]
    assert len(features.values) == 36
    assert [dataset.names[i] for i in features.indices] == [
        n for n in dataset.names if "empty" not in n and "text" not in n
    ]


def test_file_that_changes_while_it_is_read_is_not_kept_under_its_old_content(
    photos: Path, starter: Backbone, own_cache: Path
) -> None:
    dataset = tw.ImageDataset.from_directory(photos)
    assert len(dataset.digests) == 36
    make_photo((0, 0, 0), 123).save(photos / "ash" / "0.png")
    (bad,) = tw.extract_features(dataset, starter).bad
    assert (bad.name, bad.reason) == ("ash/0.png", "it changed while it was being read")


def test_stop_at_a_bad_image(photos: Path, starter: Backbone, own_cache: Path) -> None:
    (photos / "ash" / "text.jpg").write_bytes(b"hello")
    with pytest.raises(BadImageError, match="ash/text.jpg"):
        tw.extract_features(tw.ImageDataset.from_directory(photos), starter, on_bad_image="stop")


def test_more_than_a_tenth_bad_stops(photos: Path, starter: Backbone, own_cache: Path) -> None:
    for i in range(5):
        (photos / "ash" / f"bad{i}.jpg").write_bytes(b"hello")
    with pytest.raises(TooManyBadImagesError, match="of 41 images can't be read so far, more than a tenth"):
        tw.extract_features(tw.ImageDataset.from_directory(photos), starter)


def test_extractor_in_a_scikit_learn_pipeline(photos: Path) -> None:
    paths = sorted(map(str, photos.rglob("*.*")))
    labels = [Path(path).parent.name for path in paths]
    pipeline = make_pipeline(tw.FeatureExtractor("starter"), LogisticRegression(max_iter=1000))
    assert pipeline.fit(paths, labels).score(paths, labels) > 0.9
