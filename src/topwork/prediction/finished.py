"""Which answers a finished file holds: the same are not computed again, and those of others not overwritten.

What a file was made from is kept in the cache folder, with the file's checksum. Where that is gone, a file that is
there counts as somebody's.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from topwork.errors import OptionError, StorageError
from topwork.files import cache_dir, fingerprint, printable, read_json, write_json
from topwork.kept import checksum_of_file


def is_finished(out: Path, facts: dict[str, Any], *, replace: bool) -> int | None:
    """How many images could not be read, where `out` holds the answers of these `facts` already; else None.

    Raises:
        OptionError: it holds something else than answers of this classifier, and `replace` is False.
    """
    if not out.exists():
        return None
    record = read_json(_place(out))
    made_from: dict[str, Any] = {}
    with contextlib.suppress(OSError, KeyError, TypeError, ValueError):  # what is kept may be damaged
        if record and record["checksum"] == checksum_of_file(out):
            n_bad, made_from = int(record["n_bad"]), dict(record["facts"])
    if made_from == facts:
        return n_bad
    if not replace and made_from.get("other classifier") != facts["other classifier"]:
        raise OptionError(
            f"{printable(str(out))!r} is there already, and isn't known as answers of this classifier. Choose another "
            "name, or replace it: `replace=True`."
        )
    return None


def record_finished(out: Path, facts: dict[str, Any], n_bad: int) -> None:
    """Remember what `out` was made from, where the cache folder can be written."""
    with contextlib.suppress(OSError, StorageError):
        _place(out).parent.mkdir(parents=True, exist_ok=True)
        write_json(_place(out), {"facts": facts, "n_bad": n_bad, "checksum": checksum_of_file(out)})


def _place(out: Path) -> Path:
    return cache_dir() / "answers" / f"{fingerprint({'path': str(out.resolve())})}.json"
