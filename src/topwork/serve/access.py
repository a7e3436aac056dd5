"""Who may ask: the names that this service answers to, its token, and what other sites' pages make a browser send."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from topwork.errors import OptionError
from topwork.serve.limits import Refusal

OPEN = frozenset({"/", "/health", "/ready"})
"""What needs no token: the page has to load to ask for it, and a supervisor has none."""
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+?)\.?)(?::[0-9]*)?")
"""`NAME`, `NAME:PORT`, `[ADDRESS]:PORT`."""
_NAME = re.compile(r"[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*|[^\s:/@\[\]]+")
_LONGEST_SHOWN = 100
_FOREIGN = (b"cross-site", b"same-site")
"""What a browser says in Sec-Fetch-Site of a request by another origin's page. A site has many origins: all ports of
localhost are one site."""

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: what clients must show; None lets everyone in.
        names: names in small letters that requests may have in `Host`, beside those of this machine; None: any name.
    """

    token: str | None = None
    names: frozenset[str] | None = None

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Look at the head of a request.

        Raises:
            Refusal: it is not for this service, or its sender may not ask for that.
        """
        self._check_host(_values(headers, b"host"))
        if self.token is None:
            _check_site(method, _values(headers, b"sec-fetch-site"))
        elif path not in OPEN:
            self._check_token(_values(headers, b"authorization"))

    def _check_host(self, given: list[bytes]) -> None:
        if len(given) != 1:
            raise Refusal(400, f"Expected one Host header, got {len(given)}.")
        if self.names is None:
            return
        host = given[0].decode("latin-1").lower()
        found = _HOST.fullmatch(host)
        name = found and (found[1] or found[2])
        if not name or not (name in self.names or is_this_machine(name)):
            raise Refusal(
                421,
                f"This service answers to localhost, 127.0.0.1 and [::1]; the Host of the request is "
                f"{host[:_LONGEST_SHOWN]!r}. Whoever started it can let another name in with --allow-host.",
            )

    def _check_token(self, given: list[bytes]) -> None:
        if len(given) > 1:
            raise Refusal(400, f"Expected one Authorization header, got {len(given)}.")
        scheme, _, token = b"".join(given).strip(b" \t").partition(b" ")
        # the comparison takes as long for a wrong token as for one that is nearly right
        is_right = secrets.compare_digest(token.lstrip(b" "), (self.token or "").encode())
        if scheme.lower() != b"bearer" or not is_right:
            raise Refusal(401, "Expected the header 'Authorization: Bearer TOKEN' with this service's token.")


def _check_site(method: str, given: list[bytes]) -> None:
    """With a token, a foreign page lacks it; without one, it could make the service work, though not read answers."""
    if method == "POST" and any(site in _FOREIGN for site in given):
        raise Refusal(403, "A page of another site sent this. Without a token, only the service's own page may.")


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


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
