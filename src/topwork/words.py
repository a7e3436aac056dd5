"""How counts, lists and names are said, so that one thing is never called several, and names may hold anything."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_LEFT_OUT = 10
"""Classes that a message names one by one, with what leaves them out."""


def counted(n: int, thing: str, things: str = "") -> str:
    """`1 image`, `2,000 images`; `things` is the plural where it isn't `thing` and an s."""
    return f"{n:,} {thing if n == 1 else things or thing + 's'}"


def visible(text: str) -> str:
    """`text` for a terminal: control characters, which can move the cursor or set the title, as `\\x1b`; lines stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


def first(texts: Sequence[str], *, most: int = 5, between: str = ", ") -> str:
    """`a, b and 3 more`; after semicolons, `a; b; and 3 more`."""
    more = len(texts) - most
    end = f"{' ' if between == ', ' else between}and {more:,} more" if more > 0 else ""
    return between.join(texts[:most]) + end


def listed(names: Sequence[str], *, what: tuple[str, str] = ("class", "classes"), most: int = 5) -> str:
    """`class 'a'`, or `classes 'a', 'b', … and 3 more`."""
    return f"{what[len(names) > 1]} {first(list(map(repr, names)), most=most)}"


def tuned_part(part: str, cut: str) -> str:
    """What of a network was fine-tuned: `the last stage (above stage2_block2_relu)`, or `all layers`."""
    return "all layers" if part == "all" else f"the {part.replace('-', ' ')} (above {cut})"


def without(class_names: Sequence[str]) -> str:
    """What leaves these classes out, as the command line's own words make flags of it: `` `ignore_classes=fox` ``."""
    more = " …" if len(class_names) > _MOST_LEFT_OUT else ""
    return " ".join(f"`ignore_classes={name}`" for name in class_names[:_MOST_LEFT_OUT]) + more
