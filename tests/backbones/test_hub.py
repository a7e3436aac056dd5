"""A hub on 127.0.0.1: commits, layouts, licences, checksums, redirects to another host, tokens, and working offline."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork as tw
from helpers import Heard
from topwork.backbones.cards import find_card
from topwork.backbones.engines import open_engine
from topwork.backbones.hub import fetch_network
from topwork.errors import DownloadError, OfflineError, OptionError, WeightsError
from topwork.progress import Reporter

Topwork = Callable[..., Any]
NETWORKS = Path(__file__).parent / "networks"
COMMIT, LATER = "a" * 40, "b" * 40
PIXELS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 64, "width": 64}}
OUTPUT = {"output": "pooler_output"}


class Server(ThreadingHTTPServer):
    """Answers by a function of path and headers: `(status, headers, body)`."""

    def __init__(self, answer: Callable[[str, Any], tuple[int, dict[str, str], bytes]]) -> None:
        self.requests: list[tuple[str, str | None]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(inner) -> None:
                self.requests.append((inner.path, inner.headers.get("Authorization")))
                status, headers, body = answer(inner.path, inner.headers)
                inner.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    inner.send_header(name, value)
                inner.end_headers()
                inner.wfile.write(body)

            def log_message(inner, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@dataclass
class Hub:
    """A hub with repositories, whose large files lie at another host, as real ones do."""

    files: dict[str, bytes]
    commit: str = COMMIT
    licence: str | None = "apache-2.0"
    is_gated: bool = False
    checksums: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.storage = Server(self._stored)
        self.server = Server(self._answer)

    def _stored(self, path: str, headers: Any) -> tuple[int, dict[str, str], bytes]:
        content = self.files[path.removeprefix("/stored/")]
        if headers.get("Range"):
            start = int(headers["Range"].removeprefix("bytes=").rstrip("-"))
            return 206, {}, content[start:]
        return 200, {}, content

    def _answer(self, path: str, headers: Any) -> tuple[int, dict[str, str], bytes]:
        if self.is_gated and headers.get("Authorization") != "Bearer secret":
            return 401, {}, b"{}"
        if path in (f"/api/models/owner/net/revision/{revision}?blobs=true" for revision in (self.commit, "main")):
            siblings = [
                {"rfilename": name, "size": len(content), **self._lfs(name, content)}
                for name, content in self.files.items()
            ]
            card = {} if self.licence is None else {"cardData": {"license": self.licence}}
            return 200, {}, json.dumps({"sha": self.commit, "siblings": siblings, **card}).encode()
        if path.startswith(f"/owner/net/resolve/{self.commit}/"):
            name = path.split("/", 5)[5]
            if name.endswith(".json"):
                return 200, {}, self.files[name]
            return 302, {"Location": f"/moved/{name}"}, b""  # on this host first
        if path.startswith("/moved/"):
            return 302, {"Location": f"{self.storage.url}/stored/{path.removeprefix('/moved/')}"}, b""
        return 404, {}, b"{}"

    def _lfs(self, name: str, content: bytes) -> dict[str, Any]:
        if name.endswith(".json"):
            return {}
        return {"lfs": {"sha256": self.checksums.get(name, hashlib.sha256(content).hexdigest())}}

    def close(self) -> None:
        for server in (self.server, self.storage):
            server.shutdown()
            server.server_close()


def siglip_files(folder: str = "onnx/", name: str = "vision_model.onnx") -> dict[str, bytes]:
    network = (NETWORKS / "siglip.onnx").read_bytes()
    return {"preprocessor_config.json": json.dumps(PIXELS).encode(), "config.json": b"{}", f"{folder}{name}": network}


@pytest.fixture
def hub(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub({**siglip_files(), "onnx/model.onnx": b"wants text too", "onnx/vision_model_fp16.onnx": b"half"})
    monkeypatch.setenv("HF_ENDPOINT", f"{found.server.url}/")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield found
    found.close()


def test_a_repository_becomes_a_backbone_and_works_offline_from_then_on(hub: Hub) -> None:
    notes = Heard()
    backbone = tw.load_backbone(f"hf:owner/net@{COMMIT}", reporter=notes, **OUTPUT)
    assert (backbone.name, backbone.size, backbone.recipe.frame) == ("net", 64, "squash")
    assert backbone.card.licence == "apache-2.0"
    assert "licence apache-2.0" in notes.notes[0]
    assert backbone.weights.origin == f"hf:owner/net@{COMMIT}/onnx/vision_model.onnx"
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    expected = tw.load_backbone(str(NETWORKS / "siglip.onnx"), mean=(0.5,), std=(0.5,), **OUTPUT)
    assert np.array_equal(open_engine(backbone, "cpu").infer(image), open_engine(expected, "cpu").infer(image))
    n_requests = len(hub.server.requests)
    for reference in (f"hf:owner/net@{COMMIT}", backbone.weights.origin):
        assert tw.load_backbone(reference, offline=True, **OUTPUT).weights.digest == backbone.weights.digest
        assert tw.load_backbone(reference, **OUTPUT).weights.digest == backbone.weights.digest
    assert len(hub.server.requests) == n_requests  # a commit never changes


def test_a_branch_is_looked_up_and_its_last_commit_serves_without_a_connection(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OfflineError, match="isn't on this machine"):
        tw.load_backbone("hf:owner/net", offline=True, **OUTPUT)
    assert COMMIT in tw.load_backbone("hf:owner/net", **OUTPUT).weights.origin
    hub.commit = LATER
    assert LATER in tw.load_backbone("hf:owner/net", **OUTPUT).weights.origin
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    notes = Heard()
    assert LATER in tw.load_backbone("hf:owner/net", reporter=notes, **OUTPUT).weights.origin
    assert "as it was fetched last" in notes.warnings[0]
    assert LATER in tw.load_backbone("hf:owner/net", offline=True, **OUTPUT).weights.origin


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (siglip_files(), "onnx/vision_model.onnx"),
        (siglip_files(name="model.onnx"), "onnx/model.onnx"),
        (siglip_files("", "model.onnx"), "model.onnx"),
        ({**siglip_files(), **siglip_files(name="model.onnx")}, "onnx/vision_model.onnx"),
    ],
)
def test_layouts_of_repositories(hub: Hub, files: dict[str, bytes], chosen: str) -> None:
    hub.files = files
    assert tw.load_backbone("hf:owner/net", **OUTPUT).weights.origin.endswith(f"@{COMMIT}/{chosen}")


def test_weights_beside_the_network_come_too(hub: Hub) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(NETWORKS / "siglip.onnx")
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    data = largest.raw_data
    largest.ClearField("raw_data")
    largest.data_location = onnx.TensorProto.EXTERNAL
    largest.external_data.add(key="location", value="vision_model.onnx_data")
    hub.files = {**siglip_files(), "onnx/vision_model.onnx": model.SerializeToString()}
    with pytest.raises(WeightsError, match="which is not there"):
        tw.load_backbone(f"hf:owner/net@{COMMIT}", **OUTPUT)
    hub.commit, hub.files = LATER, {**hub.files, "onnx/vision_model.onnx_data": data}
    assert open_engine(tw.load_backbone(f"hf:owner/net@{LATER}", **OUTPUT), "cpu").n_features == 24


def test_a_token_goes_to_the_hub_and_to_no_other_host(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.is_gated = True
    with pytest.raises(DownloadError, match=r"HTTP 401.*HF_TOKEN"):
        tw.load_backbone("hf:owner/net", **OUTPUT)
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.server.requests.clear()
    notes = Heard()
    tw.load_backbone("hf:owner/net", reporter=notes, **OUTPUT)
    assert {token for _, token in hub.server.requests} == {"Bearer secret"}
    assert any(path.startswith("/moved/") for path, _ in hub.server.requests)
    assert hub.storage.requests
    assert {token for _, token in hub.storage.requests} == {None}
    assert "secret" not in "".join([*notes.notes, *notes.warnings, caplog.text])


def test_a_mirror_of_keras_never_sees_the_token(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    from topwork.backbones.hub import hub_token

    monkeypatch.setenv("HF_TOKEN", "secret")
    assert hub_token(f"{hub.server.url}/owner/net/resolve/main/x") == "secret"
    assert hub_token("https://storage.googleapis.com/x") is None
    assert hub_token(f"{hub.server.url}.example.com/x") is None
    assert hub_token(f"{hub.server.url}1/x") is None


def test_what_is_wrong_is_said(hub: Hub, own_cache: Path) -> None:
    hub.checksums = {"onnx/vision_model.onnx": "0" * 64}
    with pytest.raises(WeightsError, match="It was thrown away"):
        tw.load_backbone("hf:owner/net", **OUTPUT)
    hub.checksums = {}
    for name in ("hf:owner", "hf:owner/net/extra/../x.onnx", "hf:owner/net@", "hf:../../etc@main", "hf:a/b/../c.onnx"):
        with pytest.raises((OptionError, DownloadError)):
            tw.load_backbone(name, **OUTPUT)
    with pytest.raises(DownloadError, match="The hub has no hf:owner/other@main"):
        tw.load_backbone("hf:owner/other")
    with pytest.raises(DownloadError, match=r"has no onnx/none.onnx. Name one: onnx/model.onnx"):
        tw.load_backbone("hf:owner/net/onnx/none.onnx")
    hub.files = {"pytorch_model.bin": b"pickle"}
    with pytest.raises(DownloadError, match="how to make an ONNX file"):
        tw.load_backbone("hf:owner/net")
    hub.files = {**siglip_files(), "onnx/vision_model.onnx_data/../../../../escaped": b"x"}
    with pytest.raises(DownloadError, match="no plain name"):
        tw.load_backbone("hf:owner/net", **OUTPUT)
    assert not list(own_cache.parent.rglob("escaped"))


@pytest.mark.parametrize("answer", [b"", b"[]", b"not json", b'{"sha": "main"}', b'{"sha": 3, "siblings": []}'])
def test_a_hub_that_answers_nonsense_is_one_sentence(
    answer: bytes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(lambda path, headers: (200, {}, answer))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    try:
        with pytest.raises(DownloadError, match="could not be read") as found:
            fetch_network("hf:owner/net", offline=False, reporter=Reporter())
    finally:
        server.shutdown()
        server.server_close()
    assert "\n" not in str(found.value)


def test_a_card_is_fetched_by_its_commit_and_checked(
    hub: Hub, topwork: Topwork, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cards' own networks can't be had here: one of them is given a tiny network's checksum."""
    card = find_card("siglip2-base")
    assert card.name == "siglip2_base"
    network = (NETWORKS / "siglip.onnx").read_bytes()
    path = card.weights_url.removeprefix("https://huggingface.co")
    tiny = replace(card, input_size=64, n_features=24, weights_hash=hashlib.sha256(network).hexdigest())
    monkeypatch.setattr("topwork.backbones.backbone.find_card", lambda name: tiny)
    server = Server(lambda asked, headers: (200, {}, network) if asked == path else (404, {}, b""))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    try:
        notes = Heard()
        backbone = tw.load_backbone("siglip2-base", reporter=notes)
        assert (backbone.recipe.frame, backbone.recipe.filter, backbone.output) == (
            "squash",
            "bilinear",
            "pooler_output",
        )
        assert "licence Apache-2.0" in notes.notes[0]
        dataset = tw.ImageDataset.from_directory(photos)
        classifier = tw.fit_classifier(dataset, backbone, verbose=False)
        classifier.save(photos.parent / "classifier")
        server.requests.clear()
        assert tw.load_backbone("siglip2-base", offline=True).weights.digest == backbone.weights.digest
        assert server.requests == []
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(OptionError, match="has its own weights"):
        tw.load_backbone("siglip2-base", weights="random")
