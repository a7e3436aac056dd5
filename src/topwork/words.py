"""How counts are said, so that one thing is never called several; and how names are shown that may hold anything."""

from __future__ import annotations


def counted(n: int, thing: str, things: str = "") -> str:
    """`1 image`, `2,000 images`; `things` is the plural where it isn't `thing` and an s."""
    return f"{n:,} {thing if n == 1 else things or thing + 's'}"


def visible(text: str) -> str:
    """`text` for a terminal: control characters, which can move the cursor or set the title, as `\\x1b`; lines stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)
