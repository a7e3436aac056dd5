"""Fetching weights from a real server on 127.0.0.1: resume, cut connection, wrong checksum, 404, nobody there."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from topwork.backbones import weights as weights_module
from topwork.backbones.cards import find_card
from topwork.backbones.download import fetch
from topwork.backbones.weights import fetch_pretrained, pretrained_file
from topwork.errors import DownloadError, OfflineError, WeightsError
from topwork.progress import Reporter

CONTENT = np.random.default_rng(0).bytes(1_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Site:
    """A server with one file; `cut_after` bytes it drops the connection, as long as `cuts` are left."""

    content: bytes = CONTENT
    cuts: int = 0
    cut_after: int = 300_000
    knows_ranges: bool = True
    requests: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.headers.get("Range") or "all")
            if not self.path.endswith("/weights.h5"):
                self.send_error(404)
                return
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(asked[1]) if asked and state.knows_ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if asked and state.knows_ranges else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.cuts:
                state.cuts -= 1
                body = body[: state.cut_after]
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def test_whole_file_comes_in_one_piece(site: Site, tmp_path: Path) -> None:
    fetch(f"{site.url}/weights.h5", tmp_path / "w.h5", MD5, Reporter())
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert site.requests == ["all"]


def test_cut_connection_goes_on_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.cuts = 2
    fetch(f"{site.url}/weights.h5", tmp_path / "w.h5", MD5, Reporter())
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert site.requests == ["all", "bytes=300000-", "bytes=600000-"]


def test_part_of_an_earlier_run_is_used(site: Site, tmp_path: Path) -> None:
    (tmp_path / "w.h5.part").write_bytes(CONTENT[:700_000])
    fetch(f"{site.url}/weights.h5", tmp_path / "w.h5", MD5, Reporter())
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert site.requests == ["bytes=700000-"]


def test_server_without_ranges_sends_it_anew(site: Site, tmp_path: Path) -> None:
    site.knows_ranges = False
    (tmp_path / "w.h5.part").write_bytes(CONTENT[:700_000])
    fetch(f"{site.url}/weights.h5", tmp_path / "w.h5", MD5, Reporter())
    assert (tmp_path / "w.h5").read_bytes() == CONTENT


def test_part_that_was_whole_already(site: Site, tmp_path: Path) -> None:
    (tmp_path / "w.h5.part").write_bytes(CONTENT)
    fetch(f"{site.url}/weights.h5", tmp_path / "w.h5", MD5, Reporter())
    assert (tmp_path / "w.h5").read_bytes() == CONTENT


def test_connection_that_stays_cut_keeps_its_part_and_says_what_to_do(site: Site, tmp_path: Path) -> None:
    site.cuts, site.cut_after = 99, 1000
    with pytest.raises(DownloadError, match="cut after .* put it at .*w.h5.*`backbone=starter`"):
        fetch(f"{site.url}/weights.h5", tmp_path / "w.h5", MD5, Reporter())
    assert not (tmp_path / "w.h5").exists()
    assert (tmp_path / "w.h5.part").stat().st_size == 4000


def test_wrong_checksum_is_thrown_away(site: Site, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"checksum {MD5}, expected 0123"):
        fetch(f"{site.url}/weights.h5", tmp_path / "w.h5", "0123" * 8, Reporter())
    assert list(tmp_path.iterdir()) == []


def test_404_is_not_tried_again(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="HTTP 404"):
        fetch(f"{site.url}/other.h5", tmp_path / "w.h5", MD5, Reporter())
    assert len(site.requests) == 1


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch("http://127.0.0.1:9/weights.h5", tmp_path / "w.h5", MD5, Reporter())


def test_keras_own_cache_is_looked_into(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(find_card("densenet121"), weights_hash=MD5)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras" / "models").mkdir(parents=True)
    copy = tmp_path / "keras" / "models" / card.weights_file
    copy.write_bytes(CONTENT)
    assert fetch_pretrained(card, offline=True, reporter=Reporter()) == copy


def test_mirror_takes_the_place_of_keras_own_server(
    site: Site, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = weights_module._KERAS_URL + "/x/weights.h5"
    card = replace(find_card("densenet121"), weights_hash=MD5, weights_url=url)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("TOPWORK_MIRROR", site.url + "/")
    assert fetch_pretrained(card, offline=False, reporter=Reporter()).read_bytes() == CONTENT


def test_file_put_in_place_by_hand_is_checked(own_cache: Path) -> None:
    card = replace(find_card("densenet121"), weights_hash=MD5)
    pretrained_file(card).parent.mkdir(parents=True)
    pretrained_file(card).write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="cut short or changed"):
        fetch_pretrained(card, offline=True, reporter=Reporter())


def test_offline_says_where_the_file_belongs(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    card = find_card("densenet121")
    with pytest.raises(OfflineError, match=re.escape(str(pretrained_file(card)))):
        fetch_pretrained(card, offline=True, reporter=Reporter())
