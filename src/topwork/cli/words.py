"""The library names parameters; here they become flags of the command line."""

from __future__ import annotations

import re
import shlex


def with_flags(text: str) -> str:
    """`text` with parameters such as `` `min_images=3` `` written as a person types them: `--min-images 3`."""
    return re.sub(r"`([a-z_]+)=([^`]+)`", _flag, text)


def _flag(parameter: re.Match[str]) -> str:
    return f"--{parameter[1].replace('_', '-')} {shlex.quote(parameter[2])}"
