"""The named sets: scikit-learn's digits, and those that Keras fetches once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from topwork.data.sources import ArrayImages
from topwork.data.table import LabelTable
from topwork.errors import DownloadError, OfflineError, UnknownNameError, did_you_mean

_KERAS_FILES = {
    "mnist": "mnist.npz",
    "fashion_mnist": "fashion-mnist",
    "cifar10": "cifar-10-batches-py-target",
    "cifar100": "cifar-100-python-target",
}
NAMES = ("digits", *_KERAS_FILES)

_CLASS_NAMES = {
    "fashion_mnist": "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot",
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar100": (
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
        "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
        "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster "
        "man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
        "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
        "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger "
        "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
    ),
}


def read_named(name: str, *, offline: bool) -> LabelTable:
    """A named set with its own split, if it has one.

    Raises:
        UnknownNameError: no such name.
        OfflineError: it isn't here, and may not be fetched.
        DownloadError: it could not be fetched.
    """
    if name not in NAMES:
        raise UnknownNameError(f"Unknown set {name!r}.{did_you_mean(name, NAMES)} There are {', '.join(NAMES)}.")
    if name == "digits":
        return _digits()
    (train_x, train_y), (test_x, test_y) = _load_keras(name, offline)
    return LabelTable(
        source=ArrayImages(np.concatenate([train_x, test_x]), name),
        labels=np.concatenate([train_y, test_y]).ravel().astype(np.int64),
        class_names=tuple(_CLASS_NAMES.get(name, "0 1 2 3 4 5 6 7 8 9").split()),
        splits=np.array(["train"] * len(train_x) + ["test"] * len(test_x)),
    )


def _digits() -> LabelTable:
    """1,797 handwritten digits of 8×8 pixels (Alpaydin & Kaynak 1998), which scikit-learn carries."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # the values come as 0..16
    return LabelTable(ArrayImages(images, "digits"), bunch.target.astype(np.int64), tuple("0123456789"))


def _load_keras(name: str, offline: bool) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    folder = Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")) / "datasets"
    if offline and not (folder / _KERAS_FILES[name]).exists():
        raise OfflineError(
            f"{name!r} isn't on this machine (looked for {str(folder / _KERAS_FILES[name])!r}), and `offline=True` "
            "forbids fetching it. Run once without, or use 'digits', which needs no download."
        )
    from topwork.keras_door import import_keras

    keras = import_keras()
    try:
        return getattr(keras.datasets, name).load_data()  # type: ignore[no-any-return]
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise DownloadError(
            f"{name!r} could not be fetched: {error}. Check the network and run again, "
            "or use 'digits', which needs no download."
        ) from error
