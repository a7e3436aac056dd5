"""What a run tells MLflow and TensorBoard is what its folder says, and a tracker that fails costs nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = ("--top", "8", "--epochs", "3", "--size", "32", "--test", "0.2", "--no-check")


def test_tensorboard_reads_what_was_logged(topwork: Callable[..., object], photos: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    answer = topwork("train", photos, *SMALL, "--tensorboard", "--out", "run")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    assert "Logged to tensorboard: run/tensorboard; see it with: tensorboard --logdir ." in answer.err  # type: ignore[attr-defined]
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert [event.step for event in events.Scalars("history/val_loss")] == list(range(1, len(history)))
    accuracy = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["accuracy"]["value"]
    assert events.Scalars("test/accuracy")[0].value == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_mlflow_has_parameters_metrics_history_and_files(
    topwork: Callable[..., object], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    answer = topwork("train", photos, *SMALL, "--mlflow", "--out", "run")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    assert "Logged to mlflow: sqlite" in answer.err  # type: ignore[attr-defined]
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs(["0"])
    assert run.info.run_name == "run"
    assert run.data.params["backbone"] == "starter"
    assert run.data.params["size"] == "32"
    accuracy = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["accuracy"]["value"]
    assert run.data.metrics["test/accuracy"] == pytest.approx(accuracy)
    assert len(client.get_metric_history(run.info.run_id, "val_loss")) == 3
    assert {"report.html", "classifier"} <= {item.path for item in client.list_artifacts(run.info.run_id)}


def test_a_client_that_is_not_installed_is_said_before_the_work(
    topwork: Callable[..., object], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    answer = topwork("train", photos, "--tensorboard", "--out", "run")
    assert answer.status == 1  # type: ignore[attr-defined]
    assert "pip install 'topwork[tensorboard]'" in answer.err  # type: ignore[attr-defined]
    assert not (tmp_path / "run").exists()


def test_a_server_that_is_away_costs_a_warning(
    topwork: Callable[..., object], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    answer = topwork("train", photos, "--size", "32", "--mlflow", "--out", "run")
    assert answer.status == 0  # type: ignore[attr-defined]
    assert "Warning: the run could not be logged to mlflow" in answer.err  # type: ignore[attr-defined]
    assert (tmp_path / "run" / "report.html").exists()
