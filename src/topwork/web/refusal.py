"""A request that gets another answer than it asked for."""

from __future__ import annotations


class Refusal(Exception):
    """A request that gets another answer than it asked for.

    Attributes:
        status: of HTTP.
        detail: what was expected, what came, what to do.
        retry_after: seconds after which it may be asked again; None where that would not help.
    """

    def __init__(self, status: int, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
