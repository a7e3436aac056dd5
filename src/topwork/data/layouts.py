"""How a folder of images is laid out: which folders are splits, and which are classes."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from topwork.data.decoding import SUFFIXES
from topwork.data.labels import normal_form
from topwork.data.table import SPLIT_OF_NAME
from topwork.data.walking import Folder, PassedOver, holds_images, links_above, n_images, n_loose, subfolders
from topwork.errors import DataError
from topwork.files import printable
from topwork.words import counted, listed, without

_UNLABELLED = ""
_WORDS = SPLIT_OF_NAME | dict.fromkeys(
    ("pred", "predict", "prediction", "predictions", "unlabelled", "unlabeled"), _UNLABELLED
)
_FILLERS = frozenset(
    {"set", "data", "dataset", "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "split"}
)
"""Words beside that of a split which mean nothing."""
_FOLDERS = ("folder", "folders")
_TABLES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose images are of one class, in the split that the data says; '' where it says none."""

    folder: Folder
    name: str
    split: str = ""


@dataclass(frozen=True)
class Layout:
    """Where the images of each class lie.

    Attributes:
        classes: the class folders.
        names: of all folders that may be left out by name.
        notes: what there is to say of it, one sentence each.
    """

    classes: tuple[ClassFolder, ...]
    names: frozenset[str]
    notes: tuple[str, ...] = ()

    @property
    def has_splits(self) -> bool:
        return any(folder.split for folder in self.classes)


def find_layout(root: Folder, ignored: Sequence[str], passed_over: PassedOver) -> Layout:
    """How the folder `root` is laid out; `passed_over` hears of what lies beside.

    Args:
        root: the folder.
        ignored: names of folders that are left out, in normal form.
        passed_over: hears of folders that other programs make.

    Raises:
        DataError: folders with images that are neither splits nor classes, or two folders for one split.
    """
    notes = []
    if loops := links_above(root):
        notes.append(f"the {listed(loops, what=('link', 'links'))} to a folder above the images: passed over.")
    folders = [folder for folder in subfolders(root, passed_over) if _name(folder) not in ignored]
    splits = _splits(folders)
    if not splits and (inner := _only_one(root, folders, ignored)):
        for folder in folders:
            if folder != inner:
                n_images(folder, passed_over)  # none, but perhaps hidden ones
        found = find_layout(inner, ignored, passed_over)
        return replace(found, names=found.names | {_name(inner)}, notes=(*notes, *found.notes))
    if tables := _tables(root):
        notes.append(
            f"{tables[0]!r} lies beside the folders and is not read; if it has the labels, {_give(root)} it instead."
        )
    if n := n_loose(root):
        notes.append(f"{counted(n, 'image')} in {_shown(root)}, outside the class folders, left out.")
    found = _with_splits(splits, folders, ignored, passed_over) if splits else _without_splits(folders, passed_over)
    return replace(found, names=found.names | set(ignored) & _names_in(root), notes=(*notes, *found.notes))


def split_of(name: str) -> str | None:
    """The split that a folder or file of this name holds; None where the name doesn't tell."""
    return _read(name)[0]


def _read(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split that a name tells, '' for images without labels; and what else there is in the name."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [_unglued(word) for word in re.findall(r"[^\W\d_]+|\d+", apart.casefold())]
    found = [word for word in words if word in _WORDS]
    if len(found) != 1:
        return None, ()
    return _WORDS[found[0]], tuple(word for word in words if word not in _WORDS and word not in _FILLERS)


def _unglued(word: str) -> str:
    """`trainset` and `testdata` without what is glued to them."""
    match = re.fullmatch(f"({'|'.join(_WORDS)})({'|'.join(_FILLERS)})", word)
    return match[1] if match else word


def _families(folders: Sequence[Folder]) -> list[dict[Folder, str]]:
    """The folders that are clearly splits, by their families of names, such as `seg_train`, `seg_test`, `seg_pred`."""
    families: defaultdict[tuple[str, ...], dict[Folder, str]] = defaultdict(dict)
    for folder in folders:
        split, rest = _read(folder.name)
        if split is not None:
            families[rest][folder] = split
    return [family for family in families.values() if len({*family.values()} - {_UNLABELLED}) > 1]


def _splits(folders: Sequence[Folder]) -> dict[Folder, str]:
    """The folders that are splits; none where that is not clear.

    Raises:
        DataError: several folders are for one split.
    """
    families = _families(folders)
    counts = Counter(split for family in families for split in family.values() if split)
    doubled = [_name(folder) for family in families for folder, split in family.items() if counts[split] > 1]
    if doubled:
        raise DataError(
            f"{_shown(folders[0].parent)} has several folders for one split: {', '.join(map(repr, doubled))}. Move one "
            f"elsewhere, or leave it out, such as {without(doubled[-1:])}."
        )
    return families[0] if families else {}


def _only_one(root: Folder, folders: Sequence[Folder], ignored: Sequence[str]) -> Folder | None:
    """The one folder with images in `root`, if that is a split, or holds the splits."""
    filled = list(islice(filter(holds_images, folders), 2))
    if len(filled) != 1 or n_loose(root):
        return None
    inner = [folder for folder in subfolders(filled[0]) if _name(folder) not in ignored]
    return filled[0] if split_of(filled[0].name) is not None or _families(inner) else None


def _without_splits(folders: Sequence[Folder], passed_over: PassedOver) -> Layout:
    names = frozenset(map(_name, folders))
    inner = {folder: _inner_splits(folder) for folder in folders}
    if folders and all(inner.values()):
        for folder in folders:
            subfolders(folder, passed_over)
        classes = tuple(
            ClassFolder(place, printable(folder.name), split)
            for folder, places in inner.items()
            for place, split in places.items()
        )
        return Layout(classes, names, (f"the folders below the classes are splits: {_readings(inner[folders[0]])}.",))
    doubtful = [_name(folder) for folder in folders if split_of(folder.name)]
    notes = []
    if len({split_of(name) for name in doubtful}) > 1:
        notes.append(
            f"the {listed(doubtful, what=_FOLDERS)} may be meant as splits; they are taken as classes. Folders called "
            "train and test are taken as splits."
        )
    return Layout(tuple(ClassFolder(folder, printable(folder.name)) for folder in folders), names, tuple(notes))


def _inner_splits(class_folder: Folder) -> dict[Folder, str]:
    """The splits in a class folder, where all its images lie in such."""
    inside = [folder for folder in subfolders(class_folder) if holds_images(folder)]
    families = _families(inside)
    is_clear = len(families) == 1 and len({*families[0].values()} - {_UNLABELLED}) == len(inside)
    return families[0] if is_clear and not n_loose(class_folder) else {}


def _with_splits(
    splits: dict[Folder, str], folders: Sequence[Folder], ignored: Sequence[str], passed_over: PassedOver
) -> Layout:
    notes = [*_of_strangers([folder for folder in folders if folder not in splits], passed_over)]
    if any(folder.name.lower() not in SPLIT_OF_NAME for folder, split in splits.items() if split):
        notes.append(f"these folders are taken as splits: {_readings(splits)}.")
    classes: list[ClassFolder] = []
    names = set(map(_name, folders))
    for folder, split in splits.items():
        place = _innermost(folder)
        if split and place != folder and split_of(place.name) != split:
            notes.append(f"the classes of {_name(folder)!r} are the folders in {_shown(place)}.")
        if not split or not subfolders(place):
            notes += _of_unlabelled(folder, passed_over)
            continue
        inside = _subfolders_down_to(place, folder, passed_over)
        names |= set(map(_name, inside))
        if n := n_loose(place):
            notes.append(f"{counted(n, 'image')} in {_shown(place)}, outside the class folders, left out.")
        classes += [ClassFolder(inner, printable(inner.name), split) for inner in inside if _name(inner) not in ignored]
    return Layout(tuple(classes), frozenset(names), tuple(notes))


def _innermost(folder: Folder) -> Folder:
    """The folder with the classes: `seg_train/seg_train` or `train/images`, where that is all that the split holds."""
    inside = [inner for inner in subfolders(folder) if holds_images(inner)]
    if len(inside) != 1 or n_loose(folder):
        return folder
    is_packed = split_of(inside[0].name) == split_of(folder.name)
    is_around = sum(map(holds_images, subfolders(inside[0]))) > 1 and not n_loose(inside[0])
    return _innermost(inside[0]) if is_packed or is_around else folder


def _subfolders_down_to(place: Folder, folder: Folder, passed_over: PassedOver) -> list[Folder]:
    """The folders in `place`, which lies in `folder` or is it; hears of what other programs keep on the way."""
    found = subfolders(place, passed_over)
    while place != folder:
        place = place.parent
        subfolders(place, passed_over)
    return found


def _of_strangers(folders: Sequence[Folder], passed_over: PassedOver) -> Iterator[str]:
    """What there is to say of folders beside the splits.

    Raises:
        DataError: some hold folders with images, which may be meant as classes or splits.
    """
    filled = [folder for folder in folders if holds_images(folder)]
    nested = [_name(folder) for folder in filled if any(map(holds_images, subfolders(folder)))]
    if nested:
        raise DataError(
            f"{_shown(folders[0].parent)} holds the {listed(nested, what=_FOLDERS)} with images beside folders for "
            f"training and testing. Move them elsewhere, or leave them out: {without(nested)}."
        )
    if empty := [_name(folder) for folder in folders if folder not in filled]:
        yield f"{_shown(folders[0].parent)} holds the {listed(empty, what=_FOLDERS)} without images: passed over."
    for folder in folders:
        if folder in filled:
            yield from _of_unlabelled(folder, passed_over)
        else:
            n_images(folder, passed_over)  # none, but perhaps hidden ones


def _of_unlabelled(folder: Folder, passed_over: PassedOver) -> list[str]:
    n = n_images(folder, passed_over)
    if n == 0:
        return [f"{_shown(folder)} holds no images: passed over."]
    return [
        f"{_shown(folder)} holds {counted(n, 'image')} without class folders: no labels, so left out. "
        f"`topwork predict RUN {shlex.quote(printable(str(folder)))}` answers them."
    ]


def why_no_images(root: Folder) -> str:
    """What is wrong with a folder in which no class folder has images."""
    n = n_images(root)
    tables = _tables(root)
    hint = f" Or {_give(root)} a table that lies there: {tables[0]}." if tables else ""
    if n:
        return (
            f"{_shown(root)} holds {counted(n, 'image')} but no class folders with images. Put them in one sub-folder "
            f"per class, or list them with their labels in a CSV file with the columns `path` and `label`.{hint}"
        )
    suffixes = ", ".join(sorted(SUFFIXES))
    return f"There are no images in {_shown(root)}. Expected one sub-folder per class with {suffixes} files.{hint}"


def _tables(folder: Folder) -> list[str]:
    """The tables that lie directly in a folder, as a person names them."""
    return sorted(printable(str(folder / name)) for name in folder.inside()[1] if name.lower().endswith(_TABLES))


def _give(root: Folder) -> str:
    return "unpack all, and give" if root.is_packed else "give"


def _readings(splits: dict[Folder, str]) -> str:
    return ", ".join(f"{_name(folder)!r} ({split or 'no labels'})" for folder, split in splits.items())


def _names_in(folder: Folder) -> set[str]:
    return {_name(folder / name) for name in folder.inside()[0]}


def _name(folder: Folder) -> str:
    return normal_form(printable(folder.name))


def _shown(folder: Folder) -> str:
    return repr(printable(str(folder)))
