"""Where the images lie that a table lists, however their paths are written."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from topwork.data.archives import is_archive
from topwork.data.labels import normal_form
from topwork.data.walking import Folder, PassedOver, image_files
from topwork.errors import DataError, did_you_mean
from topwork.files import printable
from topwork.words import counted

MOST_SEARCHED = 300_000
"""Images below the folder that are looked through for those a table lists: a few seconds on a local disk."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Located:
    """Where images are.

    Attributes:
        paths: N paths; those of images that aren't there are where they were looked for.
        missing: how many are not there.
        searched: a sentence on those that lie elsewhere than the table says; empty where there are none.
        problem: what is wrong with those that are not there; empty where all are.
    """

    paths: tuple[str, ...]
    missing: int
    searched: str
    problem: str


def locate(texts: Sequence[str], root: Path, table: str, labels: Sequence[str] | None = None) -> Located:
    """Find the images that a table lists.

    Paths are taken relative to `root`; with backslashes, `~` or `file://` too. What is at `https://HOST/PATH` is looked
    for at `HOST/PATH`, where `wget -x` puts it; nothing is fetched. Where most are not there, images below
    `root` of the same names are, if each is the only one: in whatever folder, letters in whatever case, the suffix
    left out or not. Of several, the one whose folders agree best is taken; or whose folder is called as its label.

    Args:
        texts: N paths as the table has them.
        root: the folder that they start from.
        table: what the table is called.
        labels: N labels, where they are known.

    Raises:
        DataError: there is no folder `root`.
    """
    if not root.is_dir():
        what = " Images that a table lists are read from folders: unpack the archive." if is_archive(str(root)) else ""
        raise DataError(f"There is no folder {printable(str(root))!r} with the images.{what}")
    there = _Folders()
    paths = [_written(text, root, there) for text in texts]
    missing = [i for i, path in enumerate(paths) if path not in there]
    n_searched, example, several = 0, "", 0
    if 2 * len(missing) > len(paths):
        found, several = _search([(i, texts[i], labels[i] if labels is not None else None) for i in missing], root)
        taken = {path for i, path in enumerate(paths) if path in there}
        for i, path in found.items():
            if path not in taken:
                taken.add(path)
                paths[i] = path
                n_searched += 1
                example = example or f"{printable(path)!r} for {texts[i]!r}"
        missing = [i for i in missing if i not in found or paths[i] != found[i]]
    searched = (
        f"{n_searched:,} of {counted(len(paths), 'path')} in {table!r} do not lead to an image. Images of these names "
        f"below {printable(str(root))!r} are taken, such as {example}."
    )
    problem = _problem(texts, paths, missing, root, table, several) if missing else ""
    return Located(tuple(paths), len(missing), searched if n_searched else "", problem)


@dataclass
class _Folders:
    """Which files there are, by listing each folder once instead of asking for each file."""

    names: dict[str, frozenset[str]] = field(default_factory=dict)

    def __contains__(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in self.names:
            try:
                self.names[folder] = frozenset(os.listdir(folder or "."))
            except OSError:
                self.names[folder] = frozenset()
        return name in self.names[folder]


def _written(text: str, root: Path, there: _Folders) -> str:
    """The path that a text means: the first of its readings that leads to a file, or else the last."""
    path = ""
    for reading in _readings(text):
        path = os.path.join(root, reading)
        if path in there:
            return path
    return path


def _readings(text: str) -> Iterable[str]:
    yield text
    plain = text.strip()
    if plain.lower().startswith("file://"):
        plain = unquote(urlsplit(plain).path)
    elif _ADDRESS.match(plain):
        plain = plain.partition("://")[2]
        yield plain
        plain = unquote(plain)
    plain = os.path.expanduser(plain)
    if plain != text:
        yield plain
    if "\\" in plain and os.sep != "\\":
        yield plain.replace("\\", "/")


def _search(wanted: Iterable[tuple[int, str, str | None]], root: Path) -> tuple[dict[int, str], int]:
    """The one image below `root` that is meant, for each row that has one; and how many rows could mean several."""
    below = _Below(root)
    found: dict[int, str] = {}
    n_several = 0
    for i, text, label in wanted:
        matches = below.matches(text, label)
        n_several += len(matches) > 1
        if len(matches) == 1:
            found[i] = matches[0]
    return found, n_several


@dataclass(frozen=True)
class _Below:
    """The images below a folder, by their names with and without suffix; none where there are too many to look at."""

    root: Path

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        paths = list(islice(image_files(Folder(self.root), PassedOver()), MOST_SEARCHED + 1))
        names: defaultdict[str, list[str]] = defaultdict(list)
        for path in paths if len(paths) <= MOST_SEARCHED else []:
            name = _key(os.path.basename(path))
            for key in {name, os.path.splitext(name)[0]}:
                names[key].append(path)
        return dict(names)

    def matches(self, text: str, label: str | None) -> list[str]:
        """The images that a text may mean: of those with its name, those whose folders agree best."""
        parts = [_key(part) for part in re.split(r"[/\\]", list(_readings(text))[-1]) if part not in ("", ".")]
        paths = self.by_name.get(parts[-1], []) if parts else []
        if len(paths) < 2:
            return paths
        agreement = [self._n_equal(path, parts[:-1]) for path in paths]
        best = [path for path, n in zip(paths, agreement, strict=True) if n == max(agreement)]
        of_label = [path for path in best if label and _key(os.path.basename(os.path.dirname(path))) == _key(label)]
        return best if len(best) == 1 else of_label or best

    def _n_equal(self, path: str, folders: list[str]) -> int:
        """How many of the folders above an image are called as in the text, from the innermost outwards."""
        own = [_key(part) for part in Path(path).relative_to(self.root).parts[:-1]]
        pairs = zip(reversed(own), reversed(folders), strict=False)
        return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(own), len(folders)))


def _key(name: str) -> str:
    return normal_form(printable(name)).casefold()


def _problem(
    texts: Sequence[str], paths: Sequence[str], missing: Sequence[int], root: Path, table: str, several: int
) -> str:
    first = missing[0]
    if _ADDRESS.match(texts[first]) and not texts[first].lower().startswith("file://"):
        how = (
            "With their addresses in a file, one a line, `wget -x -nc -i addresses.txt -P photos` does it"
            if texts[first].lower().startswith("http")
            else "Copy them to a folder"
        )
        return (
            f"{len(missing):,} of {counted(len(paths), 'image')} in {table!r} {'is' if len(missing) == 1 else 'are'} "
            f"not on this machine, such as {texts[first]!r}. Images that a table lists are not fetched: fetch them "
            f"first. {how}; then say where they are: `image_root=photos`."
        )
    path = os.path.abspath(paths[first])
    text = (
        f"{len(missing):,} of {counted(len(paths), 'image')} in {table!r} {'is' if len(missing) == 1 else 'are'} not "
        f"where it says. The first is {texts[first]!r}, looked for at {printable(path)!r}: {_difference(path)}"
    )
    if several:
        text += f" Several images below {printable(str(root))!r} have its name."
    return f"{text} Say which folder the paths start from: `image_root=FOLDER`."


def _difference(path: str) -> str:
    """Up to where a path that leads nowhere leads, and what there is instead."""
    folder = Path(path)
    while not folder.parent.is_dir():
        folder = folder.parent
    what = "image" if str(folder) == path else "folder"
    there = sorted(os.listdir(folder.parent))
    hint = did_you_mean(folder.name, there)
    if not hint and there:
        hint = f" There are {', '.join(repr(printable(name)) for name in there[:3])}{', …' if len(there) > 3 else ''}."
    return f"no {what} {printable(folder.name)!r} in {printable(str(folder.parent))!r}.{hint}"
