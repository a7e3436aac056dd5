"""How a text stands in a CSV so that no spreadsheet takes it for a formula, and how it is read back exactly."""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_SUSPECT = "'=+-@\t\r"


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: files and classes may be called `=cmd|…`."""
    return f"'{text}" if text[:1] in _SUSPECT and _FORMULA.match(text) else text


def plain(cell: str) -> str:
    """The text that `harmless` made this cell of."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell
