"""`train.report_to` reaches transformers, and nothing is reported unless it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from finetune.config import AdapterConfig, TrainConfig
from finetune.train import train
from tests import tiny


class Recorder(TrainerCallback):
    """Stands for a tracker that is installed."""

    logged: list[dict[str, Any]]

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        self.logged.append(dict(logs))


def run(base_folder: Path, folder: Path, *trackers: str) -> None:
    base = tiny.load_base(base_folder)
    rows = tiny.chat_examples(base.tokenizer, tiny.chat_rows(8))
    config = TrainConfig(epochs=1, batch_size=4, logging_steps=1, num_threads=1, report_to=trackers)
    adapter = AdapterConfig(rank=4, alpha=8.0, targets=("q_proj",))
    train(base, rows, (), adapter=adapter, config=config, folder=folder)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    Recorder.logged = []
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Recorder)
    return Recorder


def test_a_tracker_that_is_named_is_told_the_loss(
    recorder: type[Recorder], tiny_base: Path, tmp_path: Path
) -> None:
    run(tiny_base, tmp_path, "tensorboard")
    assert sum("loss" in line for line in recorder.logged) == 2


def test_nothing_is_reported_unasked(
    recorder: type[Recorder],
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = ["tensorboard"]  # what transformers takes by itself where it is told nothing
    monkeypatch.setattr(integration_utils, "get_available_reporting_integrations", lambda: found)
    run(tiny_base, tmp_path)
    assert recorder.logged == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_mlflow_is_told_the_loss_of_each_step(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    run(tiny_base, tmp_path / "run", "mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    (logged,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(client.get_metric_history(logged.info.run_id, "loss")) == 2
