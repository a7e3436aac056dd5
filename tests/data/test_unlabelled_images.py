"""Images without labels: features, checks, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from topwork.checks.check import check_dataset
from topwork.data.dataset import ImageDataset
from topwork.data.images import UnlabelledImages
from topwork.errors import DataError
from topwork.features.extraction import extract_features


def test_a_folder_of_any_shape_is_a_set_of_images(photos: Path) -> None:
    (photos / "loose.png").write_bytes((photos / "ash" / "0.png").read_bytes())
    images = UnlabelledImages.from_directory(photos)
    assert len(images) == 37
    assert "loose.png" in images.names
    assert images.select([0, 1]).names == images.names[:2]


def test_unlabelled_images_have_the_features_of_labelled_ones(photos: Path) -> None:
    images, dataset = UnlabelledImages.from_directory(photos), ImageDataset.from_directory(photos)
    plain, labelled = extract_features(images, "starter"), extract_features(dataset, "starter")
    by_digest = dict(zip(dataset.digests, labelled.values, strict=True))
    assert all((by_digest[d] == values).all() for d, values in zip(images.digests, plain.values, strict=True))


def test_unlabelled_images_are_checked_for_copies(photos: Path) -> None:
    (photos / "loose.png").write_bytes((photos / "ash" / "0.png").read_bytes())
    found = check_dataset(UnlabelledImages.from_directory(photos), "starter")
    copy = next(row for row in found.findings() if row["finding"] == "copy")
    assert {copy["image"], copy["other_image"]} == {"loose.png", "ash/0.png"}
    assert copy["label"] == ""
    assert found.summary()["pairs_with_two_labels"] == 0


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no image in"):
        UnlabelledImages.from_directory(tmp_path)
    with pytest.raises(DataError, match="Expected a folder"):
        UnlabelledImages.from_directory(tmp_path / "none")
