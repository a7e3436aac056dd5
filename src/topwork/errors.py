"""What can go wrong, as one tree: catch `TopworkError` for all of it.

Every message says what was expected, what came, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TopworkError(Exception):
    """The root of every error that Topwork raises on purpose."""


class OptionError(TopworkError, ValueError):
    """An argument has a value that it can't have."""


class UnknownNameError(OptionError):
    """A name that no table lists, such as a misspelt backbone."""


class DataError(TopworkError, ValueError):
    """The labelled images can't be used as they are."""


class SplitError(DataError):
    """The images can't be divided into train, validation and test."""


class BadImageError(DataError):
    """One image can't be read."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r}: {reason}")
        self.name = name
        self.reason = reason


class TooManyBadImagesError(DataError):
    """More than a tenth of the images can't be read."""


class ShapeError(TopworkError, ValueError):
    """Arrays that belong together do not describe the same N images."""


class WeightsError(TopworkError):
    """Pretrained weights are missing, cut short, or not those of this backbone."""


class DownloadError(WeightsError, ConnectionError):
    """A file could not be fetched."""


class OfflineError(DownloadError):
    """A download is needed, and `offline` forbids it."""


class SavedFileError(TopworkError):
    """A saved classifier or run folder is missing, damaged, or from a newer Topwork."""


class ExportError(TopworkError):
    """The classifier can't be exported, or its export does not answer as the classifier does."""


class SpecialFileError(TopworkError, OSError):
    """A path names something that must not be read as a file: a named pipe, a device, or a file of an insane size."""


class StorageError(TopworkError, OSError):
    """A file can't be written: disk full, or no permission."""


class ObjectStoreError(TopworkError, OSError):
    """An object store refuses, does not have what was asked for, or does not answer."""


class MissingObjectError(ObjectStoreError):
    """An object is not there, or not any more."""


class EnvironmentProblem(TopworkError, RuntimeError):
    """The Python environment stands in the way, such as a Keras backend that can't train."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'resnet50'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def not_installed(error: ModuleNotFoundError) -> str:
    """What to say where a package is missing, as many are in a light installation."""
    return (
        f"This takes {error.name!r}, which is not installed here. pip install topwork brings it. (A light installation "
        "serves classifiers whose graphs are in its cache: see docs/serve.md.)"
    )
