"""Which names a page or service answers to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from topwork.errors import OptionError
from topwork.web.refusal import Refusal

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+?)\.?)(?::[0-9]*)?")
"""`NAME`, `NAME:PORT`, `[ADDRESS]:PORT`."""
_NAME = re.compile(r"[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*|[^\s:/@\[\]]+")
_LONGEST_SHOWN = 100

Headers = Sequence[tuple[bytes, bytes]]


def values_of(headers: Headers, wanted: bytes) -> list[bytes]:
    """The values of all headers of this name, in small letters."""
    return [value for name, value in headers if name == wanted]


def require_known_host(names: frozenset[str] | None, headers: Headers) -> None:
    """Look at the `Host` of a request; `names` as from `names_for`.

    Raises:
        Refusal: it names another machine.
    """
    given = values_of(headers, b"host")
    if len(given) != 1:
        raise Refusal(400, f"Expected one Host header, got {len(given)}.")
    if names is None:
        return
    host = given[0].decode("latin-1").lower()
    found = _HOST.fullmatch(host)
    name = found and (found[1] or found[2])
    if not name or not (name in names or is_this_machine(name)):
        raise Refusal(
            421,
            f"This service answers to localhost, 127.0.0.1 and [::1]; the Host of the request is "
            f"{host[:_LONGEST_SHOWN]!r}. Whoever started it can let it answer to another name.",
        )


def is_this_machine(name: str) -> bool:
    """Whether `name` is localhost, or a loopback address: what only clients on this machine can reach."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def names_for(address: str, allowed: Iterable[str]) -> frozenset[str] | None:
    """The names that requests may have in `Host`, beside those of this machine; None where any will do.

    A page on the internet can point its own name at 127.0.0.1 and then read what a service there answers (DNS
    rebinding); its requests still carry that name. On other addresses the service is known by names it can't know of.

    Args:
        address: that the service listens on.
        allowed: names given by whoever starts it.

    Raises:
        OptionError: one of them is no name of a host.
    """
    names = frozenset(name.lower().removeprefix("[").removesuffix("]").removesuffix(".") for name in allowed)
    for name in names:
        if not _NAME.fullmatch(name):
            raise OptionError(f"Expected the name of a host, such as photos.example, without a port; got {name!r}.")
    return names if names or is_this_machine(address) else None
