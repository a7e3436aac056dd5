"""The course's networks go through the whole job, from fetching their weights to a prediction elsewhere.

Of networks of one kind the smallest does each time, the deeper ones with `-m large`.

The published weights can't be had here. The job runs on weights with plausible values in the same file format (Keras's
old HDF5 layout), fetched from a server on 127.0.0.1 through the same code.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest
from PIL import Image

from helpers import DEEPER, SHARED, make_photos
from topwork.backbones.cards import COURSE, cards, find_card
from topwork.backbones.network import NetworkSpec, build_base
from topwork.backbones.weights import _KERAS_URL

MAKE_WEIGHTS = """
import sys
sys.path.insert(0, sys.argv[1])
from topwork.keras_child import _NOT_FOR_BUILDING, _Hidden, draw_weights_in_numpy
sys.meta_path.insert(0, _Hidden(_NOT_FOR_BUILDING))  # or else Keras imports TensorFlow, which takes seconds
import h5py, keras, numpy as np
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from helpers import plausible_tensor
draw_weights_in_numpy()
name, size, path = sys.argv[2], int(sys.argv[3]), sys.argv[4]
base = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(size, size, 3))
random = np.random.default_rng(0)
for weight in base.weights:
    weight.assign(plausible_tensor(weight.path, tuple(weight.shape), random))
with h5py.File(path, "w") as file:
    save_weights_to_hdf5_group(file, base)
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served where Topwork looks for weights."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "server"
    folder.mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("TOPWORK_MIRROR", f"http://127.0.0.1:{http.server_port}")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    yield folder
    http.shutdown()
    http.server_close()
    thread.join()


def real_photos(folder: Path, n: int = 25) -> Path:
    """`n` CIFAR-10 images of each of three classes where this machine has them, else photographs of sorts."""
    table_path = SHARED / "cifar10-jpeg.parquet"
    if not table_path.exists():
        return make_photos(folder, n)
    import pyarrow.parquet as parquet

    table = parquet.ParquetFile(table_path).read_row_group(0, columns=["image", "label"]).to_pylist()
    for label in (0, 1, 8):
        (folder / str(label)).mkdir(parents=True)
        chosen = [row["image"] for row in table if row["label"] == label][:n]
        for i, data in enumerate(chosen):
            Image.open(io.BytesIO(data)).save(folder / str(label) / f"{i}.png")
    return folder


@pytest.mark.parametrize("name", sorted(DEEPER))
@pytest.mark.usefixtures("no_random_initialisation")
def test_a_deeper_network_is_as_its_card_says(name: str) -> None:
    card = find_card(name)
    base = build_base(NetworkSpec(card.builder, card.preprocessing.name, card.smallest_size, "avg"))
    assert base.count_params() == card.parameters
    assert base.output_shape == (None, card.n_features)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.large) if name in DEEPER else name for name in COURSE]
)
def test_whole_job(
    name: str,
    server: Path,
    topwork: Callable[..., object],
    own_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = find_card(name)
    served = server / urlparse(card.weights_url).path.removeprefix(urlparse(_KERAS_URL).path + "/")
    served.parent.mkdir(parents=True)
    command = [sys.executable, "-c", MAKE_WEIGHTS, str(Path(__file__).parent), card.builder, str(card.smallest_size)]
    environment = {**os.environ, "KERAS_BACKEND": "openvino", "CI": "true"}  # CI: else OpenVINO's import calls home
    subprocess.run([*command, str(served)], env=environment, check=True, capture_output=True)
    digest = hashlib.md5(served.read_bytes()).hexdigest()
    monkeypatch.setitem(cards(), name, replace(card, weights_hash=digest))

    photos = real_photos(tmp_path / "photos")
    size = ("--size", card.smallest_size)
    top = ("--top", "16", "--patience", "3", "--test", "0.2")
    trained = topwork("train", photos, "--backbone", name, *size, *top, "--no-check", "--json")
    assert trained.status == 0, trained.err  # type: ignore[attr-defined]
    result = json.loads(trained.out)  # type: ignore[attr-defined]
    history = Path(result["run"], "history.csv").read_text().splitlines()
    assert len(history) - 1 == min(result["best"]["epoch"] + 3, 100)  # it stopped early, and kept the best epoch
    assert result["n_extracted"] == len(list(photos.rglob("*.png"))) + len(list(photos.rglob("*.jpg")))

    image = next(photos.rglob("*.png"))
    here = json.loads(topwork("predict", result["run"], image, "--format", "jsonl").out)  # type: ignore[attr-defined]
    elsewhere = subprocess.run(
        [sys.executable, "-m", "topwork", "predict", result["run"], str(image), "--format", "jsonl"],
        env={**os.environ, "TOPWORK_CACHE": str(tmp_path / "another machine")},
        capture_output=True,
        text=True,
        check=True,
    )
    there = json.loads(elsewhere.stdout)
    assert there["class"] == here["class"]
    assert there["probability"] == pytest.approx(here["probability"], abs=1e-5)
