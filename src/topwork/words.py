"""How a count is said, so that one thing is never called several."""

from __future__ import annotations


def counted(n: int, thing: str, things: str = "") -> str:
    """`1 image`, `2,000 images`; `things` is the plural where it isn't `thing` and an s."""
    return f"{n:,} {thing if n == 1 else things or thing + 's'}"
