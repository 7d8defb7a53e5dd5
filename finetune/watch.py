"""Who looks on while an adapter is trained: progress, training.jsonl, timely checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from finetune.config import TrainConfig
from finetune.errors import IntegrityError


@dataclass(frozen=True)
class StepInfo:
    """How far training is, for a progress line."""

    step: int
    num_steps: int
    loss: float | None
    """Mean loss since the last line; None where it is private or not yet known."""

    tokens_per_second: float
    seconds_left: float


class Watch(TrainerCallback):  # type: ignore[misc]
    """Writes `training.jsonl`, moves the progress line, and saves often enough."""

    def __init__(
        self, config: TrainConfig, log: Path, on_step: Callable[[StepInfo], None], *, has_eval: bool
    ) -> None:
        self.config = config
        self.log = log
        self.on_step = on_step
        self.has_eval = has_eval
        self.loss: float | None = None
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Drop the lines of the log that a resumed run will write again."""
        self.began = self.saved = time.monotonic()
        self.first_step = state.global_step
        _keep_lines_up_to(self.log, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the progress line, and ask for a checkpoint where one is due."""
        now = time.monotonic()
        done = state.global_step - self.first_step
        self.on_step(
            StepInfo(
                step=state.global_step,
                num_steps=state.max_steps,
                loss=self.loss,
                tokens_per_second=self.trainer.num_tokens_seen / (now - self.began),
                seconds_left=(now - self.began) / done * (state.max_steps - state.global_step),
            )
        )
        is_last = state.global_step >= state.max_steps or control.should_training_stop
        if is_last or now - self.saved > self.config.save_every_seconds:
            control.should_save = True
        if is_last:
            control.should_log = True
            control.should_evaluate = self.has_eval

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note when a checkpoint was saved."""
        self.saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Write a line of the log; stop at a loss that is no number."""
        if not state.is_world_process_zero:
            return
        self.loss = logs.get("loss", self.loss)
        for name in ("loss", "eval_loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise IntegrityError(
                    f"training diverged: {name} is {logs[name]} at step {state.global_step}; "
                    "lower train.learning_rate"
                )
        if "train_runtime" in logs:  # transformers' closing summary, which TrainResult holds
            return
        line = {"step": state.global_step} | {k: v for k, v in logs.items() if k != "epoch"}
        with self.log.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps(line) + "\n")


def _keep_lines_up_to(log: Path, step: int) -> None:
    """Drop the lines that an interrupted run wrote after the checkpoint it resumes from."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    log.write_text("".join(line + "\n" for line in kept), encoding="utf-8", newline="\n")
