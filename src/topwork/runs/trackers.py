"""A finished run told to an experiment tracker: MLflow or TensorBoard, through their own clients."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from topwork.errors import EnvironmentProblem, OptionError
from topwork.progress import Reporter

TRACKERS = ("mlflow", "tensorboard")


def require_trackers(names: Sequence[str]) -> None:
    """Raise now, not after hours of training, if a tracker is unknown or its client is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise OptionError(f"Expected trackers to be among {', '.join(TRACKERS)}; got {name!r}.")
        try:
            _import_mlflow() if name == "mlflow" else _import_tensorboard()
        except ImportError as error:
            raise EnvironmentProblem(
                f"--{name} needs the extra {name!r}: pip install 'topwork[{name}]' ({error})."
            ) from error


def track(folder: Path, names: Sequence[str], reporter: Reporter) -> None:
    """Log a run folder's parameters, metrics, history and files to trackers; says where, and warns of what fails."""
    for name in names:
        try:
            place = _log_to_mlflow(folder) if name == "mlflow" else _log_to_tensorboard(folder)
        except Exception as error:  # a server that is away must not cost the run
            reporter.warning(f"the run could not be logged to {name}: {error}")
        else:
            reporter.note(f"Logged to {name}: {place}")


def _log_to_mlflow(folder: Path) -> str:
    """Where MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say; MLflow's own defaults else."""
    mlflow = _import_mlflow()
    with mlflow.start_run(run_name=folder.name) as run:
        mlflow.log_params(_parameters(folder))
        mlflow.log_metrics(_metrics(folder))
        for step, row in _history(folder):
            mlflow.log_metrics(row, step=step)
        mlflow.log_artifacts(str(folder))
    return f"{mlflow.get_tracking_uri()}, run {run.info.run_id}"


def _log_to_tensorboard(folder: Path) -> str:
    """`tensorboard/` in the run folder, so that `tensorboard --logdir runs` shows every run."""
    place = folder / "tensorboard"
    with _import_tensorboard().SummaryWriter(str(place)) as writer:
        for step, row in _history(folder):
            for key, value in row.items():
                writer.add_scalar(f"history/{key}", value, step)
        for key, value in _metrics(folder).items():
            writer.add_scalar(key, value, 0)
        writer.add_hparams(_parameters(folder), _metrics(folder), name=".")
        writer.add_text("model card", (folder / "README.md").read_text("utf-8").split("---", 2)[-1])
    return f"{place}; see it with: tensorboard --logdir {folder.parent}"


def _import_mlflow() -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nobody asked to tell its makers
    import mlflow

    return mlflow


def _import_tensorboard() -> Any:
    import tensorboardX

    return tensorboardX


def _parameters(folder: Path) -> dict[str, str | float | int]:
    """What the run was made from."""
    record = _read(folder / "run.json")
    backbone, data, top = record["backbone"], record["data"], record["top"]
    parameters = {
        "data": data["origin"],
        **{f"n_{split}": n for split, n in data["sides"].items()},
        "n_flipped": record["n_flipped"],
        "backbone": backbone["backbone"],
        "weights": backbone["weights_origin"],
        **{name: backbone[name] for name in ("size", "pooling", "precision")},
        "top": top["kind"],
        **{name: value for name, value in top.items() if name not in ("kind", "seed")},
        "seed": record["seed"],
        "features": record["features"],
        "topwork": record["topwork"],
    }
    return {name: value if isinstance(value, int | float) else str(value)[:500] for name, value in parameters.items()}


def _metrics(folder: Path) -> dict[str, float]:
    """The headline figures, those with an interval with its ends: `test/accuracy`, `test/accuracy_low`, …"""
    found: dict[str, float] = {}
    metrics = _read(folder / "metrics.json")
    for split in ("test", "cross_validated", "validation"):
        for name, figure in (metrics[split] or {}).items():
            if isinstance(figure, dict) and "value" in figure:
                found |= {f"{split}/{name}": figure["value"], f"{split}/{name}_low": figure["low"]}
                found[f"{split}/{name}_high"] = figure["high"]
    seconds = _read(folder / "run.json")["seconds"]
    return found | {f"seconds/{name}": value for name, value in seconds.items()}


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _history(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Each epoch (or L2 value, counted from 1) with its row."""
    with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
        for step, row in enumerate(csv.DictReader(file), start=1):
            yield step, {name: float(value) for name, value in row.items() if name != "epoch"}
