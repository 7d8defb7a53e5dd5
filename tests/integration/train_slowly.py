"""A training run that says how far it is, and can be killed: ``python -m`` this, from a test."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from finetune.config import AdapterConfig, TrainConfig
from finetune.train import StepInfo, TrainResult, train
from tests import tiny

NUM_STEPS = 12


def train_it(
    base_folder: Path, folder: Path, head: str, *, hold_at: int = 0, seed: int = 0
) -> TrainResult:
    """Train with dropout and held-back rows: 3 epochs of 4 steps.

    With ``hold_at``, slowly, so that checkpoints are also saved within an epoch, and at that step
    no further.
    """
    is_chat = head == "chat"
    base = tiny.load_base(
        base_folder, "nf4", dtype="bfloat16", labels=() if is_chat else tiny.LABELS, seed=seed
    )
    rows: list[Any]
    if is_chat:
        rows = tiny.chat_examples(base.tokenizer, tiny.chat_rows(20, num_turns=2))
    else:
        rows = tiny.class_examples(base.tokenizer, tiny.class_rows(20))

    def wait(info: StepInfo) -> None:
        (folder / "step").write_text(str(info.step))
        time.sleep(600 if info.step == hold_at else 0.3 if hold_at else 0)

    folder.mkdir(exist_ok=True)
    return train(
        base,
        rows[:16],
        rows[16:],
        # one of the two with a block that is run ahead of training, and a whitened head
        adapter=AdapterConfig(
            rank=4,
            alpha=8.0,
            dropout=0.1,
            last_layers=None if is_chat else 1,
            whiten_head=not is_chat,
        ),
        public_texts=("Where is my card?", "How much is a transfer?", "Thank you!"),
        config=TrainConfig(
            epochs=3,
            batch_size=4,
            learning_rate=5e-3,
            seed=seed,
            num_threads=1,
            logging_steps=1,
            save_every_seconds=1,
        ),
        folder=folder,
        on_step=wait,
    )


if __name__ == "__main__":
    train_it(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], hold_at=int(sys.argv[4]))
