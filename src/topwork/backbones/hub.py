"""Networks from a model hub: `hf:OWNER/NAME[@COMMIT][/FILE]`, an ONNX file in a repository of Hugging Face's.

What was fetched once is kept by its commit, and used without a connection from then on. `$HF_ENDPOINT` takes the place
of the hub's own server; a token in `$HF_TOKEN` is sent to that host and no other.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork.backbones.download import fetch, open_url
from topwork.errors import DownloadError, OfflineError, OptionError
from topwork.files import cache_dir, printable, read_json, write_json
from topwork.progress import Reporter

HUB = "https://huggingface.co"
PREFIX = "hf:"
_REFERENCE = re.compile(r"hf:([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?(?:/(.+\.onnx))?", re.ASCII)
_PLAIN_PATH = re.compile(r"(?:(?!\.\.?/)[\w.@+-]+/)*(?!\.\.?$)[\w.@+-]+", re.ASCII)
_CHOICES = ("onnx/vision_model.onnx", "onnx/model.onnx", "vision_model.onnx", "model.onnx")
"""Where hubs have the network; `model.onnx` beside a `vision_model.onnx` wants text too."""
_BESIDE = ("preprocessor_config.json", "config.json")
_LARGEST_ANSWER = 32 << 20
_RECORD = "network.json"


@dataclass(frozen=True)
class HubNetwork:
    """A network from a hub, on this machine.

    Attributes:
        path: its ONNX file, with what it needs beside it.
        reference: `hf:OWNER/NAME@COMMIT/FILE`, which names this very file.
        name: the repository's, without its owner.
        licence: as the repository says it.
    """

    path: Path
    reference: str
    name: str
    licence: str


def hub_address() -> str:
    """The hub's server, without a slash at the end."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def hub_token(url: str) -> str | None:
    """The token for `url`: only where it is the hub's."""
    token = os.environ.get("HF_TOKEN")
    return token if token and url.startswith(f"{hub_address()}/") else None


def fetch_network(text: str, *, offline: bool, reporter: Reporter) -> HubNetwork:
    """The network that `text` names: found here, or fetched.

    Raises:
        OptionError: `text` names none.
        OfflineError: it isn't here, and may not be fetched.
        DownloadError: it could not be fetched, or there is no such repository or file.
        WeightsError: a wrong checksum.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or (match[3] and not _PLAIN_PATH.fullmatch(match[3])):
        raise OptionError(
            f"Expected a network of a hub as hf:OWNER/NAME, with @COMMIT or /FILE.onnx where wanted; got {text!r}."
        )
    repository, revision, file = match[1], match[2] or "main", match[3] or ""
    folder = cache_dir() / "hub" / repository.replace("/", "--")
    known = revision if re.fullmatch(r"[0-9a-f]{40}", revision) else None
    if known is not None and (found := _kept(folder / known, repository, file)):
        return found
    last = (read_json(folder / "revisions.json") or {}).get(revision)
    here = _kept(folder / str(last), repository, file)
    if offline:
        if here is None:
            raise OfflineError(
                f"{text} isn't on this machine, and `offline=True` forbids fetching it. Fetch it before."
            )
        return here
    try:
        facts = _describe(repository, revision)
    except DownloadError as error:
        if here is None:
            raise
        reporter.warning(f"{here.reference} is used, as it was fetched last. {error}")
        return here
    commit = str(facts["sha"])
    if revision != commit:
        write_json(folder / "revisions.json", {**(read_json(folder / "revisions.json") or {}), revision: commit})
    found = _kept(folder / commit, repository, file)
    return found or _fetch(repository, commit, file, facts, folder / commit, reporter)


def _kept(folder: Path, repository: str, file: str) -> HubNetwork | None:
    record = read_json(folder / _RECORD) or {}
    networks: dict[str, str] = record.get("networks") or {}
    chosen = file or str(record.get("chosen"))
    if chosen not in networks or not (folder / chosen).is_file():
        return None
    return _network(folder, repository, chosen, networks[chosen])


def _network(folder: Path, repository: str, file: str, licence: str) -> HubNetwork:
    reference = f"{PREFIX}{repository}@{folder.name}/{file}"
    return HubNetwork(folder / file, reference, repository.split("/")[1], licence)


def _fetch(
    repository: str, commit: str, file: str, facts: dict[str, Any], folder: Path, reporter: Reporter
) -> HubNetwork:
    """Fetch the network, what lies beside it, and what says how its pixels are scaled; the record comes last."""
    there = {str(entry["rfilename"]): entry for entry in facts["siblings"]}
    chosen = file or next((path for path in _CHOICES if path in there), "")
    if chosen not in there:
        onnx = sorted(path for path in there if path.endswith(".onnx"))
        listed = f"Name one: {', '.join(onnx[:8])}" if onnx else "docs/backbones.md says how to make an ONNX file"
        raise DownloadError(f"{PREFIX}{repository}@{commit} has no {chosen or ' or '.join(_CHOICES)}. {listed}.")
    beside = [path for path in there if path.startswith((f"{chosen}_data", f"{chosen}.data"))]
    wanted = [*beside, chosen, *(name for name in _BESIDE if name in there)]
    licence = _licence(facts)
    n_bytes = sum(int(there[path].get("size") or 0) for path in wanted)
    reporter.note(f"{PREFIX}{repository}@{commit}: {n_bytes / 1e6:,.0f} MB, licence {licence}")
    for path in wanted:
        if not _PLAIN_PATH.fullmatch(path):
            raise DownloadError(f"{PREFIX}{repository} has a file {printable(path)!r}, which has no plain name.")
        checksum = str((there[path].get("lfs") or {}).get("sha256") or "")
        url = f"{hub_address()}/{repository}/resolve/{commit}/{path}"
        fetch(url, folder / path, checksum, reporter, token=hub_token(url))
    record = read_json(folder / _RECORD) or {}
    networks = {**(record.get("networks") or {}), chosen: licence}
    write_json(folder / _RECORD, {"networks": networks, "chosen": record.get("chosen") or chosen})
    return _network(folder, repository, chosen, licence)


def _describe(repository: str, revision: str) -> dict[str, Any]:
    """What the hub says of a repository at a revision: its commit, its files with their checksums, its licence."""
    url = f"{hub_address()}/api/models/{repository}/revision/{revision}?blobs=true"
    try:
        with open_url(url, token=hub_token(url)) as response:
            facts = json.loads(response.read(_LARGEST_ANSWER))
        if not re.fullmatch(r"[0-9a-f]{40}", facts["sha"]) or not isinstance(facts["siblings"], list):
            raise ValueError("it says no commit")
    except urllib.error.HTTPError as error:
        raise DownloadError(_refused(repository, revision, error.code)) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"{url} could not be read: {reason}. Is there a connection? Set HF_ENDPOINT for a mirror, or give a file."
        ) from error
    return dict(facts)


def _refused(repository: str, revision: str, status: int) -> str:
    shown = f"{PREFIX}{repository}@{revision}"
    if status in (401, 403):
        return (
            f"The hub doesn't give {shown} to everyone, or there is none (HTTP {status}). Accept its licence on its "
            "page, and put a token of yours into HF_TOKEN."
        )
    return f"The hub has no {shown} (HTTP {status}). Check the name." if status == 404 else f"{shown}: HTTP {status}."


def _licence(facts: dict[str, Any]) -> str:
    card = facts.get("cardData")
    said = card.get("license") if isinstance(card, dict) else None
    tags = [tag for tag in facts.get("tags") or [] if isinstance(tag, str) and tag.startswith("license:")]
    return str(said or (tags[0].removeprefix("license:") if tags else "not known"))
