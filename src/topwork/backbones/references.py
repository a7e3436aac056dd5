"""Names that stand for a network elsewhere, such as `hf:OWNER/NAME`: how each kind begins, and what fetches it."""

from __future__ import annotations

from collections.abc import Callable

from topwork.backbones import hub
from topwork.backbones.hub import HubNetwork
from topwork.progress import Reporter

FETCHERS: dict[str, Callable[..., HubNetwork]] = {hub.PREFIX: hub.fetch_network}
"""By how names begin; each is called as `fetch(name, offline=…, reporter=…)`, and keeps what it fetched."""


def is_reference(name: str) -> bool:
    """Whether a backbone's name stands for a network elsewhere."""
    return name.startswith(tuple(FETCHERS))


def fetch_reference(name: str, *, offline: bool, reporter: Reporter) -> HubNetwork:
    """The network that `name` stands for: found here, or fetched.

    Raises:
        OptionError: `name` stands for none.
        OfflineError: it isn't here, and may not be fetched.
        DownloadError: it could not be fetched.
        WeightsError: a wrong checksum.
    """
    fetch = next(fetch for start, fetch in FETCHERS.items() if name.startswith(start))
    return fetch(name, offline=offline, reporter=reporter)
