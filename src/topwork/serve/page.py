"""The page for people: one file that loads nothing else, and the policy that holds it to that."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources


@cache
def page() -> bytes:
    """The page, its style and script inside."""
    html = _text("page.html")
    return html.replace("{{ style }}", _text("page.css")).replace("{{ script }}", _text("page.js")).encode()


@cache
def policy() -> str:
    """Content-Security-Policy: this script, this style, the user's own pictures, and requests to this service."""
    return (
        f"default-src 'none'; script-src {_source('page.js')}; style-src {_source('page.css')}; img-src blob: data:; "
        "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _source(name: str) -> str:
    digest = hashlib.sha256(("\n" + _text(name)).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
