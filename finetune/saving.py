"""A trainer whose checkpoints are whole or refused, and hold no weight that is no number."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers import Trainer

from finetune import resume
from finetune.divergence import rows_in_words
from finetune.errors import IntegrityError

LOSS_SINCE_LOG = "loss_since_log.json"
"""File in a checkpoint: what the next logged mean is taken of, beside the steps that follow."""

NUM_CHECKPOINTS = 2
"""The newest ones that are kept, beside the best."""


class WholeCheckpoints(Trainer):  # type: ignore[misc] # transformers ships no types
    """How a trainer saves and what it goes on from; `finetune.resume` says when that is whole."""

    names_rows = True
    """Whether a message may tell of the rows of a batch: their ids, or how large they are."""

    save_seconds = 0.0
    """What the last checkpoint took; 0 before the first."""

    _resume_folder: Path | None = None

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **options: Any) -> Any:
        """Train, from a checkpoint if one is given."""
        self._resume_folder = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        return super().train(resume_from_checkpoint, *args, **options)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint that is whole or known not to be, and then remove older ones.

        Raises:
            IntegrityError: if a weight is NaN or infinite; the checkpoints before are kept.
        """
        began = time.monotonic()
        trained = [p for p in model.parameters() if p.requires_grad]
        if num_broken := sum(not bool(torch.isfinite(p).all()) for p in trained):
            self.diverged(
                f"{num_broken} of {len(trained)} trained tensors hold NaN or infinity after "
                f"{self.state.global_step} steps"
            )
        folder = Path(self.args.output_dir)
        checkpoint = resume.path_of(folder, self.state.global_step)
        if self.args.should_save:
            resume.begin(checkpoint)
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            since_log = {"sum": self._tr_loss.item(), "last_logged": self._globalstep_last_logged}
            (checkpoint / LOSS_SINCE_LOG).write_text(
                json.dumps(since_log), encoding="utf-8", newline="\n"
            )
            resume.seal(checkpoint)
            resume.keep_newest(folder, NUM_CHECKPOINTS, best=self.state.best_global_step)
        self.save_seconds = time.monotonic() - began

    def take_up_loss(self) -> None:
        """Go on with the mean loss that the run was in the middle of when its checkpoint was saved.

        Checkpoints of earlier versions do not hold it; the next line of the log is then of fewer
        steps.
        """
        if self._resume_folder is None or not (self._resume_folder / LOSS_SINCE_LOG).is_file():
            return
        since_log = json.loads((self._resume_folder / LOSS_SINCE_LOG).read_text(encoding="utf-8"))
        self._tr_loss += since_log["sum"]
        self._globalstep_last_logged = since_log["last_logged"]

    def _init_training_state(self, *args: Any) -> tuple[int, int]:
        """Find the best checkpoint where the checkpoints are now, should the run have moved."""
        trained: tuple[int, int] = super()._init_training_state(*args)
        if self.state.best_global_step is not None:
            best = resume.path_of(Path(self.args.output_dir), self.state.best_global_step)
            self.state.best_model_checkpoint = str(best)
        return trained

    def _load_best_model(self) -> None:
        """Load the best checkpoint, if it is what was saved.

        Raises:
            IntegrityError: if it is not.
        """
        best = Path(self.state.best_model_checkpoint)
        if why := resume.damage(best):
            raise IntegrityError(
                f"{best} has the best evaluation loss and cannot be used: {why}. Run the same "
                "command again: it sets the checkpoint aside and trains its steps again"
            )
        super()._load_best_model()

    def diverged(self, what: str, where: str = "", ids: Sequence[str] = ()) -> NoReturn:
        """End a training that has gone wrong; its last good checkpoint stays.

        Args:
            what: went wrong, and when.
            where: in which rows.
            ids: of these rows; told only where they are not private.

        Raises:
            IntegrityError: always.
        """
        last = resume.newest(Path(self.args.output_dir))
        saved = f"{last.name}, from before it, is kept" if last else "no checkpoint was saved yet"
        rows, way_out = "", "lower train.learning_rate"
        if not self.names_rows:
            rows = "; which rows its batch had is private, and not told"
        elif ids:
            rows = f", {where}: {rows_in_words(ids)}"
            way_out += ", or look at these rows"
        raise IntegrityError(f"training diverged: {what}{rows}; {saved}; {way_out}")
