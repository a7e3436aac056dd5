"""One thing is never called several."""

from __future__ import annotations

from topwork.words import counted


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 2000)] == ["0 images", "1 image", "2 images", "2,000 images"]
    assert [counted(n, "copy", "copies") for n in (1, 2)] == ["1 copy", "2 copies"]
