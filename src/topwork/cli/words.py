"""The library names parameters; here they become flags of the command line."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import click

from topwork.words import visible

_RENAMED = {"ignore-classes": "ignore-class"}
"""Flags that are not called as their parameters are."""


def say(text: str, *, err: bool = False) -> None:
    """Print what people read: control characters in names of files and classes are shown, not obeyed."""
    click.echo(visible(text).encode("utf-8", "backslashreplace").decode(), err=err)


def with_flags(text: str) -> str:
    """`text` with parameters such as `` `min_images=3` `` written as a person types them: `--min-images 3`."""
    return re.sub(r"`([a-z_]+)=([^`]+)`", _flag, text)


def _flag(parameter: re.Match[str]) -> str:
    name = parameter[1].replace("_", "-")
    flag = f"--{_RENAMED.get(name, name)}"
    return flag if parameter[2] == "True" else f"{flag} {shlex.quote(parameter[2])}"


def say_json(value: Any) -> None:
    """Print what programs read: names as they are, in ASCII, so that nothing in them moves a terminal."""
    click.echo(json.dumps(value, indent=2), color=True)
