"""A private run that is killed again and again: ``python -m`` this, from a test.

Imports everything once and forks a process for every life, so that a life costs a second.
Each life writes, as it goes, what an accountant must never miss: one line for every noise tensor
that was drawn (its hash) and one for every noisy gradient that was made.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetune.config import AdapterConfig, TrainConfig
from finetune.train import StepRule, train
from privacy import budget, mechanism, trainer
from privacy.ledger import Ledger
from privacy.mechanism import OS_RANDOMNESS, PoissonSampler
from privacy.plan import BudgetConfig, DPPlan, PrivacyConfig, make_plan
from privacy.trainer import private_trainer
from tests import tiny

NUM_EXAMPLES, BATCH_SIZE, EPOCHS = 24, 4, 40


def the_plan() -> DPPlan:
    """240 steps."""
    config = PrivacyConfig(epsilon=None, noise_multiplier=1.0, delta=1e-3)
    return make_plan(config, num_examples=NUM_EXAMPLES, batch_size=BATCH_SIZE, epochs=EPOCHS)


def live(base_folder: Path, folder: Path) -> int:
    """Begin the run or go on with it; return the step that it ends at."""
    diary = os.open(folder / "diary", os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def note(line: str) -> None:
        os.write(diary, f"{line}\n".encode())  # one write; survives the death of this process

    draw, mean = mechanism.gaussian_noise, trainer.noisy_mean

    def drawn(*args: Any) -> Tensor:
        noise = draw(*args)
        note(f"noise {hashlib.sha256(noise.numpy().tobytes()).hexdigest()}")
        return noise

    def used(*args: Any) -> list[Tensor]:
        noisy = mean(*args)
        note("step")
        return noisy

    mechanism.gaussian_noise = drawn
    trainer.noisy_mean = used
    torch.set_num_threads(1)
    base = tiny.load_base(base_folder, labels=tiny.LABELS)
    plan = the_plan()
    ledger = Ledger.open(folder / "ledger.jsonl", plan, data="kept", is_private=True)
    account = folder / "account.jsonl"
    limit = BudgetConfig(file=account.name, epsilon=1e6, delta=1e-3)
    budget.reserve(
        account, limit, plan, run=ledger.run, name="a", data="kept", num_charged=ledger.charged
    )
    ledger.tell(budget.Witness(account))
    result = train(
        base,
        tiny.class_examples(base.tokenizer, tiny.class_rows(NUM_EXAMPLES)),
        [],
        adapter=AdapterConfig(rank=2, alpha=4.0, targets=("q_proj",)),
        config=TrainConfig(
            epochs=EPOCHS, batch_size=BATCH_SIZE, evaluations_per_epoch=3, num_threads=1
        ),
        folder=folder,
        rule=StepRule(
            schedule=PoissonSampler(plan, OS_RANDOMNESS),
            wrap=lambda kind: private_trainer(kind, plan=plan, ledger=ledger),
        ),
    )
    return result.num_steps


def charges(folder: Path) -> int:
    """Count the lines of the ledger beyond its header, as they are now."""
    path = folder / "ledger.jsonl"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.is_file() else 0


def main(base_folder: Path, folder: Path, num_kills: int) -> None:
    """Kill so many lives at random moments, then let one live; write down its last step."""
    rng = random.Random(0)
    for life in range(num_kills + 1):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                (folder / "last_step").write_text(str(live(base_folder, folder)))
                code = 0
            finally:
                os._exit(code)
        if life < num_kills:
            # anywhere from the first import to a save, a charge or a noise draw some steps on
            wanted = charges(folder) + rng.randrange(8)
            until = time.monotonic() + (rng.random() * 2 if life % 5 == 0 else 120)
            while charges(folder) < wanted and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.05)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with (folder / "lives").open("a") as stream:
            stream.write(f"{os.waitstatus_to_exitcode(status)} {charges(folder)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
