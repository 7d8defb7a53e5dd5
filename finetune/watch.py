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


SAVE_SHARE = 0.05
"""Of the time of a private run, what may go into its checkpoints: a step that a crash loses is paid
for and never taken again, so they are saved as often as that allows."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Writes `training.jsonl`, moves the progress line, and saves often enough."""

    def __init__(
        self,
        config: TrainConfig,
        log: Path,
        on_step: Callable[[StepInfo], None],
        *,
        has_eval: bool,
        saves_often: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make it; ``trainer`` is to be set before training begins.

        Args:
            config: course of the training.
            log: `training.jsonl`.
            on_step: called after every step.
            has_eval: whether an evaluation loss is measured.
            saves_often: whether a step that is lost is lost for good, as in a private run.
            say: called with what somebody should know.
        """
        self.config = config
        self.log = TrainingLog(log, say)
        self.on_step = on_step
        self.has_eval = has_eval
        self.saves_often = saves_often
        self.loss: float | None = None
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Go on with the log, and with the mean that its next line holds."""
        self.began = self.saved = time.monotonic()
        self.first_step = state.global_step
        self.trainer.take_up_loss()

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
        if is_last or now - self.saved > self._save_after_seconds():
            control.should_save = True
        if is_last:
            control.should_log = True
            control.should_evaluate = self.has_eval

    def _save_after_seconds(self) -> float:
        seconds: float = self.config.save_every_seconds
        # at once after the first step, when it is not known yet what a checkpoint takes
        return min(seconds, self.trainer.save_seconds / SAVE_SHARE) if self.saves_often else seconds

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note when a checkpoint was saved."""
        self.saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Write a line of the log; stop at an evaluation loss that is no number."""
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
        self.log.add({"step": state.global_step} | {k: v for k, v in logs.items() if k != "epoch"})


class TrainingLog:
    """`training.jsonl`: appended to and never rewritten; nothing about it stops a training.

    A run that goes on from a checkpoint computes again what it had logged after it. A line that is
    there already is not written twice; one that differs is, and the later one counts.
    """

    def __init__(self, path: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self._path = path
        self._say = say
        self._is_broken = False
        self._lines: set[bytes] = set()
        self._is_torn = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as stream:
                stream.seek(0)
                content = stream.read()
        except OSError as error:
            self._give_up(error)
            return
        self._lines.update(content.split(b"\n"))
        self._is_torn = bool(content) and not content.endswith(b"\n")

    def add(self, values: dict[str, Any]) -> None:
        """Append a line, unless it is there already."""
        line = json.dumps(values).encode()
        if self._is_broken or line in self._lines:
            return
        try:
            with self._path.open("ab") as stream:
                stream.write((b"\n" if self._is_torn else b"") + line + b"\n")
        except OSError as error:
            self._give_up(error)
            return
        self._lines.add(line)
        self._is_torn = False

    def _give_up(self, error: OSError) -> None:
        self._is_broken = True
        why = error.strerror or type(error).__name__
        self._say(f"{self._path} cannot be written ({why}); training goes on without a log")
