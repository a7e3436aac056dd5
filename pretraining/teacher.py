"""What does a stronger network see in each image? Pooled features and logits of MobileNetV2, once, to learn from.

python teacher.py --images cache/train_x.npy --notop NOTOP.h5 --top TOP.h5 --out cache
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "openvino"

import keras
import numpy as np
import openvino as ov

SIDE = 128  # 64-pixel images enlarged twofold: what MobileNetV2 still reads well, at a third of the cost of 224
BATCH = 50
CHUNK = 5000


def export_teacher(notop: str, top: str, path: str) -> None:
    """Write MobileNetV2 as an OpenVINO graph: `(B, 128, 128, 3)` -> features `(B, 1280)`, logits `(B, 1000)`."""
    body = keras.applications.MobileNetV2(input_shape=(SIDE, SIDE, 3), include_top=False, weights=notop, pooling="avg")
    whole = keras.applications.MobileNetV2(input_shape=(SIDE, SIDE, 3), weights=top, classifier_activation=None)
    logits = whole.layers[-1](body.output)
    model = keras.Model(body.input, [body.output, logits])
    model(np.zeros((1, SIDE, SIDE, 3), "float32"))
    model.export(path, format="openvino", verbose=False)


def enlarge(images: np.ndarray) -> np.ndarray:
    """Bicubic, as Pillow does it, then the [-1, 1] that MobileNetV2 wants."""
    from PIL import Image

    large = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in images]
    return np.stack(large).astype("float32") / 127.5 - 1


def open_rows(path: Path, shape: tuple[int, int]) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="r+" if path.exists() else "w+", dtype="float16", shape=shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("images", "notop", "top", "out"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    out = Path(arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        export_teacher(arguments.notop, arguments.top, f"{folder}/teacher.xml")
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        network = ov.Core().compile_model(f"{folder}/teacher.xml", "CPU", options)
    images = np.load(arguments.images, mmap_mode="r")
    features = open_rows(out / "teacher_features.npy", (len(images), 1280))
    logits = open_rows(out / "teacher_logits.npy", (len(images), 1000))

    def keep(request: ov.InferRequest, start: int) -> None:
        features[start : start + BATCH] = request.get_output_tensor(0).data
        logits[start : start + BATCH] = request.get_output_tensor(1).data

    queue = ov.AsyncInferQueue(network)
    queue.set_callback(keep)
    progress = out / "teacher_rows"
    done = int(progress.read_text()) if progress.exists() else 0
    for start in range(done, len(images), BATCH):
        queue.start_async({0: enlarge(images[start : start + BATCH])}, start)
        if (start + BATCH) % CHUNK == 0:
            queue.wait_all()
            features.flush(), logits.flush()
            progress.write_text(str(start + BATCH))
            print(start + BATCH, flush=True)
    queue.wait_all()


if __name__ == "__main__":
    main()
