"""Backbones from files: today's architectures, tiny and with random weights (scripts/make-tiny-networks), whole chain.

And files of strangers: whatever is wrong with them is one sentence, and nothing outside their folder is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork as tw
from helpers import answers_elsewhere
from topwork.backbones.backbone import Backbone
from topwork.backbones.engines import open_engine
from topwork.backbones.graph_file import read_network_file
from topwork.backbones.onnx_scan import external_files
from topwork.backbones.pixel_config import find_config
from topwork.classifier.explanation import explain
from topwork.errors import OptionError, TopworkError, WeightsError
from topwork.features.extraction import feature_facts
from topwork.files import fingerprint

onnx = pytest.importorskip("onnx")
Topwork = Callable[..., Any]

NETWORKS = Path(__file__).parent / "networks"
HALF = {"mean": (0.5,), "std": (0.5,)}
TOKENS, POOLED = "last_hidden_state", "pooler_output"
CASES: list[tuple[str, str, Any]] = [
    *(("dinov2", TOKENS, "token"), ("dinov2", TOKENS, "patches"), ("dinov2_registers", TOKENS, "patches")),
    *(("dinov2_registers", POOLED, None), ("vit", TOKENS, "token"), ("clip", "image_embeds", None)),
    *(("siglip", POOLED, None), ("siglip", TOKENS, "patches"), ("convnext", TOKENS, None), ("convnext", TOKENS, "max")),
]


def load(name: str, output: str | None = None, pooling: Any = None, **options: Any) -> Backbone:
    return tw.load_backbone(str(NETWORKS / f"{name}.onnx"), output=output, pooling=pooling, **{**HALF, **options})


def reference(name: str, output: str, pooling: Any, images: np.ndarray) -> np.ndarray:
    """The same by ONNX Runtime and NumPy."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pixels = ((images / 255 - 0.5) / 0.5).astype(np.float32).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(NETWORKS / f"{name}.onnx")
    found = session.run([output], {"pixel_values": pixels})[0]
    if found.ndim == 3:
        return found[:, 0] if pooling == "token" else found[:, -16:].mean(axis=1)  # 4×4 patches
    return (found.max if pooling == "max" else found.mean)(axis=(2, 3)) if found.ndim == 4 else found


@pytest.mark.parametrize(("name", "output", "pooling"), CASES)
def test_features_are_those_of_onnx_runtime_alone_and_in_a_batch(name: str, output: str, pooling: Any) -> None:
    backbone = load(name, output, pooling)
    engine = open_engine(backbone, "cpu")
    images = np.random.default_rng(0).integers(0, 256, (3, backbone.size, backbone.size, 3), np.uint8)
    expected = reference(name, output, pooling, images)
    scale = np.abs(expected).max()
    assert engine.n_features == expected.shape[1] == backbone.card.n_features
    assert np.abs(engine.infer(images) - expected).max() < 1e-5 * scale
    alone = np.concatenate([engine.infer(image[None]) for image in images])
    assert np.abs(alone - expected).max() < 1e-5 * scale
    assert np.ptp(expected, axis=0).max() > 0.01 * scale  # else all images would look alike


def test_the_output_is_guessed_only_where_it_can_be_no_other() -> None:
    assert load("convnext").output == TOKENS
    for name in ("dinov2", "dinov2_registers", "vit", "clip", "siglip"):
        with pytest.raises(OptionError, match=r"doesn't say which of its outputs.*`output="):
            load(name)
    with pytest.raises(OptionError, match=r"has tokens, \(B, 17, 24\): give `pooling=token`"):
        load("vit", TOKENS)
    with pytest.raises(OptionError, match="and has no tokens"):
        load("clip", "image_embeds", "token")
    with pytest.raises(WeightsError, match="has no output 'features'"):
        load("vit", "features").graph()


def test_a_size_that_leaves_part_of_the_image_unseen_is_refused() -> None:
    with pytest.raises(OptionError, match=r"patches of 14 pixels, and 60 are no whole number.*`size=56` or `size=70`"):
        load("dinov2", TOKENS, "token", size=60)
    with pytest.raises(WeightsError, match=r"can't be used at 80 pixels; its own size is 64"):
        load("vit", TOKENS, "token", size=80).graph()  # its places are fixed
    assert load("convnext", size=96).size == 96


def test_the_key_of_features_holds_every_part() -> None:
    plain = load("vit", TOKENS, "token")
    others = [
        load("vit", TOKENS, "patches"),
        load("vit", POOLED),
        load("vit", TOKENS, "token", mean=(0.4,)),
        load("vit", TOKENS, "token", std=(0.4,)),
        load("vit", TOKENS, "token", frame="squash"),
        load("vit", TOKENS, "token", bgr=True),
        load("siglip", TOKENS, "patches"),
        replace(plain, precision="bf16"),
        replace(plain, weights=replace(plain.weights, digest="another")),
    ]
    keys = [fingerprint(feature_facts(backbone)) for backbone in (plain, *others)]
    assert len(set(keys)) == len(keys)
    assert fingerprint(feature_facts(load("vit", TOKENS, "token"))) == keys[0]


def test_channels_in_caffes_order(photos: Path, tmp_path: Path) -> None:
    scaled: dict[str, Any] = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    plain, turned, straight = load("convnext"), load("convnext", bgr=True, **scaled), load("convnext", **scaled)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    found, expected = open_engine(turned, "cpu").infer(image), open_engine(straight, "cpu").infer(image[..., ::-1])
    assert np.allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, open_engine(plain, "cpu").infer(image), atol=1e-2)
    tw.fit_classifier(tw.ImageDataset.from_directory(photos), turned, verbose=False).save(tmp_path / "saved")
    again = tw.load_classifier(tmp_path / "saved").backbone
    assert np.array_equal(open_engine(again, "cpu").infer(image), found)
    with pytest.raises(OptionError, match="bgr are of networks from files"):
        tw.load_backbone("starter", bgr=True)


def copied(name: str, folder: Path, config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(NETWORKS / f"{name}.onnx", folder)
    if config is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return folder / f"{name}.onnx"


def test_whole_chain_from_the_command_line(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    config = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 64, "width": 64}, "resample": 2}
    file = copied("siglip", tmp_path / "network", config)
    chosen = ("--backbone", file, "--output", TOKENS, "--pooling", "patches")
    trained = topwork("train", photos, *chosen, "--out", tmp_path / "run")
    assert "Backbone siglip, 64×64 pixels" in trained.err
    assert topwork("check", photos, *chosen).status == 0
    shutil.rmtree(tmp_path / "network")  # the classifier has its own
    os.environ["TOPWORK_CACHE"], before = str(tmp_path / "empty"), os.environ["TOPWORK_CACHE"]
    try:
        answers = topwork("predict", tmp_path / "run", photos / "ash").out
        for form in ("openvino", "onnx"):
            assert topwork("export", tmp_path / "run", "--to", form, "--out", tmp_path / form).status == 0
    finally:
        os.environ["TOPWORK_CACHE"] = before
    assert answers.count("ash") >= 10
    refused = topwork("export", tmp_path / "run", "--to", "keras", "--out", tmp_path / "keras")
    assert refused.status == 1
    assert "Keras does not build siglip" in refused.err
    told = topwork("info", tmp_path / "run").out
    assert "backbone/siglip.onnx: intact" in told
    manifest = json.loads((tmp_path / "run" / "classifier" / "manifest.json").read_text())
    assert manifest["format_version"] == 3
    assert manifest["backbone"]["frame"] == "squash"
    assert manifest["backbone"]["filter"] == "bilinear"


@pytest.mark.parametrize("name", ["dinov2", "vit", "clip", "siglip", "convnext"])
def test_saved_answers_and_exports_are_the_same(name: str, photos: Path, tmp_path: Path) -> None:
    _, output, pooling = next(case for case in CASES if case[0] == name)
    dataset = tw.ImageDataset.from_directory(photos)
    classifier = tw.fit_classifier(dataset, load(name, output, pooling), flip=True, verbose=False)
    classifier.save(tmp_path / "classifier")
    images = sorted(photos.rglob("*.png"))[::4]
    expected = classifier.predict_proba(images)
    assert np.allclose(answers_elsewhere(tmp_path / "classifier", images), expected, atol=1e-6)
    for form in ("openvino", "onnx"):
        tw.export_classifier(classifier, form, tmp_path / form, images)


@pytest.mark.parametrize(
    ("name", "output", "pooling", "method"),
    [
        ("siglip", TOKENS, "patches", "class activation"),
        ("convnext", TOKENS, None, "class activation"),
        ("vit", TOKENS, "token", "occlusion"),
        ("clip", "image_embeds", None, "occlusion"),
    ],
)
def test_explanations_are_exact_where_features_are_means(
    name: str, output: str, pooling: Any, method: str, photos: Path
) -> None:
    dataset = tw.ImageDataset.from_directory(photos)
    classifier = tw.fit_classifier(dataset, load(name, output, pooling), verbose=False)
    found = explain(classifier, next(photos.rglob("*.png")))
    assert found.method == method
    assert found.heat.shape == {"siglip": (4, 4), "convnext": (2, 2)}.get(name, (10, 10))


def test_compare_takes_files(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    config = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "crop_size": 64, "size": 64}
    file = copied("convnext", tmp_path, config)
    result = topwork("compare", photos, "--backbones", f"starter,{file},{file}@96")
    assert result.status == 0, result.err
    assert f"{file}@96" in result.out
    assert "starter@64" in result.out
    vit = copied("vit", tmp_path / "vit", {**config, "size": {"height": 64, "width": 64}})
    chosen = topwork("compare", photos, "--backbones", f"{vit}={TOKENS}:token")
    assert chosen.status == 0, chosen.err
    following = chosen.out.rpartition("Next: ")[2].split()
    assert following[following.index("--backbone") + 1] == str(vit)
    assert following[following.index("--output") + 1] == TOKENS
    assert following[following.index("--pooling") + 1] == "token"
    assert topwork(*following[1:], "--out", tmp_path / "run").status == 0


def test_inspection_says_what_would_be_used_and_why(topwork: Topwork, tmp_path: Path) -> None:
    file = copied("vit", tmp_path, {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 64})
    told = topwork("backbones", "--inspect", file).out
    for words in ("64×64", "patches of 16", f"{TOKENS} (B, 17, 24)", f"{POOLED} (B, 24)", "preprocessor_config.json"):
        assert words in told
    bare = topwork("backbones", "--inspect", copied("convnext", tmp_path / "bare"))
    assert "--mean" in bare.out


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            {"size": 224, "frame": "crop", "crop": 0.875, "filter": "bicubic"},
        ),
        ({"size": 224, "do_center_crop": True, "crop_size": 224}, {"size": 224, "crop": 1.0}),  # of old CLIPs
        (
            {"size": {"height": 384, "width": 384}, "resample": 2},
            {"size": 384, "frame": "squash", "filter": "bilinear"},
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, {"size": 224, "frame": "crop", "crop": 0.875}),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, {"size": 384, "frame": "squash"}),
    ],
)
def test_processors_of_a_hub_are_understood(config: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    numbers = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**numbers, **config}))
    found = find_config(tmp_path)
    assert found is not None
    assert {key: getattr(found, key) for key in expected} == expected
    values = np.array([0, 128, 255])[:, None] * np.array(found.preprocessing.scale) + np.array(
        found.preprocessing.offset
    )
    assert np.allclose(values, (np.array([0, 128, 255])[:, None] / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.3])


def test_timm_and_odd_configurations(tmp_path: Path) -> None:
    given = {"input_size": [3, 256, 256], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.95, "license": "mit"}
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {**given, "crop_mode": "border"}}))
    found = find_config(tmp_path)
    assert found is not None
    assert (found.size, found.frame, found.licence) == (256, "pad", "mit")
    (tmp_path / "config.json").write_text("{}")  # as at some hubs
    assert find_config(tmp_path) is None
    for broken in ({"size": {"height": 1, "width": 2}}, {"image_std": [0, 0, 0]}, {"image_mean": "x"}, {"size": "big"}):
        odd = {"image_mean": [0.5], "image_std": [0.5], **broken}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(odd))
        with pytest.raises(WeightsError, match=r"not known: .* Give `mean` and `std`"):
            find_config(tmp_path)


def test_nothing_said_of_pixels_is_asked_for(tmp_path: Path) -> None:
    file = copied("convnext", tmp_path / "a" / "b")
    with pytest.raises(OptionError, match=r"Nothing beside 'convnext.onnx' says how it needs its pixels"):
        tw.load_backbone(str(file))
    with pytest.raises(OptionError, match="mean and std go together"):
        tw.load_backbone(str(file), mean=(0.5,))
    with pytest.raises(OptionError, match="are of networks from files"):
        tw.load_backbone("starter", mean=(0.5,), std=(0.5,))


# Strangers' files


def save(folder: Path, nodes: list[Any], initializers: list[Any] | None = None, **given: Any) -> Path:
    """A network of these nodes, from `x` `(B, 3, 8, 8)` to `y`."""
    from onnx import TensorProto, helper

    inputs = given.get("inputs") or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3, 8, 8])]
    y = given.get("y") or helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 3])
    graph = helper.make_graph(nodes, "g", inputs, [y], initializers or [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    folder.mkdir(exist_ok=True)
    (folder / "network.onnx").write_bytes(model.SerializeToString())
    return folder / "network.onnx"


def pooled(x: str = "x") -> list[Any]:
    from onnx import helper

    return [helper.make_node("GlobalAveragePool", [x], ["m"]), helper.make_node("Flatten", ["m"], ["y"])]


def external(folder: Path, **entries: str) -> Path:
    """A network one of whose weights lies outside, by these entries."""
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 1, 1], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    return save(folder, [helper.make_node("Mul", ["x", "w"], ["z"]), *pooled("z")], [weight])


def test_weights_beside_a_file_are_read_and_are_part_of_its_identity(photos: Path, tmp_path: Path) -> None:
    file = external(tmp_path / "network", location="network.data", length="12")
    (file.parent / "network.data").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    assert external_files(file) == (file.parent / "network.data",)
    backbone = tw.load_backbone(str(file), **HALF)
    image = np.full((1, 8, 8, 3), 255, np.uint8)
    assert np.allclose(open_engine(backbone, "cpu").infer(image), [[1, 2, 3]])
    classifier = tw.fit_classifier(tw.ImageDataset.from_directory(photos), backbone, verbose=False)
    classifier.save(tmp_path / "classifier")
    (file.parent / "network.data").write_bytes(np.array([3, 2, 1], np.float32).tobytes())
    changed = tw.load_backbone(str(file), **HALF)
    assert changed.weights.digest != backbone.weights.digest
    assert np.allclose(open_engine(changed, "cpu").infer(image), [[3, 2, 1]])
    loaded = tw.load_classifier(tmp_path / "classifier")
    assert loaded.backbone.weights.digest == backbone.weights.digest
    (tmp_path / "classifier" / "backbone" / "network.data").write_bytes(bytes(12))
    with pytest.raises(TopworkError, match="wrong checksum"):
        tw.load_classifier(tmp_path / "classifier")


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../secret"},
        {"location": "/etc/hostname"},
        {"location": "sub/../../secret"},
        {"location": "..\\secret"},
        {"location": ""},
        {"location": "."},
        {"location": "network.onnx"},
        {"location": "missing"},
        {"location": "link"},
        {"location": "beside", "offset": "-4"},
        {"location": "beside", "length": "-4"},
        {"location": "beside", "offset": "4", "length": "12"},
        {"location": "beside", "offset": "1e9"},
    ],
)
def test_weights_anywhere_else_are_refused(entries: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(12))
    file = external(tmp_path / "network", **entries)
    (file.parent / "beside").write_bytes(bytes(12))
    (file.parent / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match="needs weights from"):
        tw.load_backbone(str(file), **HALF)


def loop() -> list[Any]:
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    n = helper.make_node("Constant", [], ["n"], value=helper.make_tensor("n", TensorProto.INT64, [], [2**62]))
    return [n, helper.make_node("Loop", ["n", "", "x"], ["z"], body=body), *pooled("z")]


def hostile() -> dict[str, tuple[list[Any], dict[str, Any], str]]:
    from onnx import TensorProto, helper

    def info(name: str, kind: int, shape: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def constant(name: str, kind: int, shape: list[int], values: list[Any]) -> Any:
        return helper.make_tensor(name, kind, shape, values)

    image = info("x", TensorProto.FLOAT, ["B", 3, 8, 8])
    random = [helper.make_node("RandomUniformLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["z"])]
    across = [
        helper.make_node("ReduceMean", ["x", "axis"], ["mean"]),
        helper.make_node("Sub", ["x", "mean"], ["z"]),
    ]
    infinite = [helper.make_node("Sub", ["x", "x"], ["zero"]), helper.make_node("Div", ["zero", "zero"], ["z"])]
    huge = [
        helper.make_node("ConstantOfShape", ["shape"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["z"]),
    ]
    text = info("t", TensorProto.INT64, ["B", 7])
    return {
        "a loop": (loop(), {}, "holds the operation"),
        "randomness": ([*random, *pooled("z")], {}, "holds the operation RandomUniform"),
        "answers by the batch": (
            [*across, *pooled("z")],
            {"initializers": [constant("axis", TensorProto.INT64, [1], [0])]},
            "other numbers alone and in a batch",
        ),
        "no numbers": ([*infinite, *pooled("z")], {}, "not finite"),
        "more memory than there is": (
            [*huge, *pooled("z")],
            {"initializers": [constant("shape", TensorProto.INT64, [2], [1 << 20, 1 << 20])]},
            "can't be used|memory|failed",
        ),
        "text too": ([*pooled()], {"inputs": [image, text]}, "Expected one input, images of three channels"),
        "bytes": (
            [helper.make_node("Cast", ["x"], ["z"], to=TensorProto.FLOAT), *pooled("z")],
            {"inputs": [info("x", TensorProto.UINT8, ["B", 3, 8, 8])]},
            "Expected one input",
        ),
        "one channel": (
            [*pooled()],
            {"inputs": [info("x", TensorProto.FLOAT, ["B", 1, 8, 8])], "y": info("y", TensorProto.FLOAT, ["B", 1])},
            "Expected one input",
        ),
        "answers, not features": (
            [*pooled()[:1], helper.make_node("Flatten", ["m"], ["f"]), helper.make_node("Softmax", ["f"], ["y"])],
            {},
            "doesn't say which of its outputs",
        ),
        "an operation of its own": (
            [helper.make_node("Custom", ["x"], ["z"], domain="strange"), *pooled("z")],
            {},
            "can't be used",
        ),
    }


@pytest.mark.parametrize("what", list(hostile()))
def test_a_hostile_graph_is_one_sentence(what: str, tmp_path: Path) -> None:
    nodes, given, message = hostile()[what]
    file = save(tmp_path / "network", nodes, **given)
    began = time.perf_counter()
    with pytest.raises((WeightsError, OptionError), match=message) as found:
        tw.load_backbone(str(file), **HALF).graph()
    assert "\n" not in str(found.value)
    assert time.perf_counter() - began < 60


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    content = (NETWORKS / "convnext.onnx").read_bytes()
    random, file = np.random.default_rng(0), tmp_path / "network.onnx"
    broken = [b"", b"not a network", content[:100], content[: len(content) // 2], bytes(1000)]
    for _ in range(3):
        changed = bytearray(content)
        for place in random.integers(0, 2000, 20):
            changed[place] = random.integers(256)
        broken.append(bytes(changed))
    for bad in broken:
        file.write_bytes(bad)
        with pytest.raises(WeightsError) as found:
            tw.load_backbone(str(file), **HALF).graph()
        assert "\n" not in str(found.value)
    with pytest.raises(WeightsError, match="There is no file"):
        tw.load_backbone(str(tmp_path / "none.onnx"))


def test_a_scan_of_any_bytes_ends_in_a_sentence_or_a_list(tmp_path: Path) -> None:
    content, random = (NETWORKS / "clip.onnx").read_bytes(), np.random.default_rng(0)
    file = tmp_path / "network.onnx"
    for _ in range(200):
        changed = bytearray(content[: random.integers(1, len(content))])
        for place in random.integers(0, len(changed), 5):
            changed[place] = random.integers(256)
        file.write_bytes(changed)
        with contextlib.suppress(WeightsError):
            assert isinstance(external_files(file), tuple)


def test_openvinos_own_format(tmp_path: Path) -> None:
    from topwork.openvino_door import import_openvino

    ov = import_openvino()
    ov.save_model(ov.Core().read_model(NETWORKS / "convnext.onnx"), tmp_path / "convnext.xml", compress_to_fp16=False)
    backbone = tw.load_backbone(str(tmp_path / "convnext.xml"), **HALF)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    expected = open_engine(load("convnext"), "cpu").infer(image)
    assert np.allclose(open_engine(backbone, "cpu").infer(image), expected, rtol=1e-4, atol=1e-5)
    (tmp_path / "convnext.bin").unlink()
    with pytest.raises(WeightsError, match=r"needs 'convnext.bin' beside it"):
        tw.load_backbone(str(tmp_path / "convnext.xml"), **HALF)


def test_a_channels_last_network_cut_inside(tmp_path: Path) -> None:
    """As TensorFlow's converter writes them: `(B, H, W, 3)`, fixed, its only output answers about other classes."""
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    kernel = helper.make_tensor("k", TensorProto.FLOAT, [5, 3, 3, 3], random.normal(size=135).tolist())
    classes = helper.make_tensor("c", TensorProto.FLOAT, [5, 2], random.normal(size=10).tolist())
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "k"], ["u"]),
        helper.make_node("Transpose", ["u"], ["v"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["v", "axes"], ["pool"], keepdims=0),
        helper.make_node("MatMul", ["pool", "c"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 8, 3])]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    file = save(tmp_path, nodes, [kernel, classes, axes], inputs=inputs, y=y)
    with pytest.raises(OptionError, match="doesn't say which.*`output=pool`"):
        tw.load_backbone(str(file), **HALF)
    assert "pool" in {facts["name"] for facts in read_network_file(file).facts["inside"]}
    engine = open_engine(tw.load_backbone(str(file), output="pool", **HALF), "cpu")
    assert engine.n_features == 5
    images = random.integers(0, 256, (4, 8, 8, 3), np.uint8)
    assert np.ptp(engine.infer(images), axis=0).min() > 0
