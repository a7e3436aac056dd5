"""Who may ask: the names that this service answers to, its token, and what other sites' pages make a browser send."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from topwork.web.hosts import Headers, require_known_host, values_of
from topwork.web.refusal import Refusal

OPEN = frozenset({"/", "/health", "/ready"})
"""What needs no token: the page has to load to ask for it, and a supervisor has none."""
_FOREIGN = (b"cross-site", b"same-site")
"""What a browser says in Sec-Fetch-Site of a request by another origin's page. A site has many origins: all ports of
localhost are one site."""


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
        require_known_host(self.names, headers)
        if self.token is None:
            _check_site(method, values_of(headers, b"sec-fetch-site"))
        elif path not in OPEN:
            self._check_token(values_of(headers, b"authorization"))

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
