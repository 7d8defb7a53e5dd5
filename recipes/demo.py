"""Run one recipe end to end on its embedded sample: what `make demo` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import typer

from recipes import config, starter


def main(recipe: str, private: bool = False) -> None:
    """Write the starting recipe file and run it, privately if asked.

    The gate's verdict is the result: a refusal (exit code 3) is a demonstration that worked.
    """
    folder = Path("runs")
    folder.mkdir(exist_ok=True)
    file = folder / f"{recipe}.yaml"
    file.unlink(missing_ok=True)
    starter.write(recipe, file)
    command = [sys.executable, "-m", "recipes.cli", "run", str(file)]
    settings = [*QUICK.get(recipe, ())]
    if private:
        settings += [f"name={config.load(file).name}-private", *PRIVATE, *PRIVATE_ADAPTER[recipe]]
    for setting in settings:
        command += ["--set", setting]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 (our own command line)
    raise SystemExit(0 if code == 3 else code)


QUICK = {"qa": ("adapter.last_layers=15",)}
"""Passages are long, and a demonstration is over in minutes on two cores without fast bfloat16 too:
the upper half of SmolLM2's blocks is adapted, and the lower half runs once for each row."""

PRIVATE = (
    "privacy={epsilon: 8}",
    "train.batch_size=64",
    "train.epochs=4",
    "train.schedule=constant",
    "train.learning_rate=5e-4",
    "adapter.rank=4",
    "adapter.alpha=8",
)
"""What differs in a private demonstration: noise grows with the number of trained parameters and
shrinks with the batch, so few parameters and large batches. A few hundred rows are few for it."""

PRIVATE_ADAPTER = {
    "qa": ("adapter.targets=[q_proj, v_proj]",),
    "chat": ("adapter.targets=[q_proj, v_proj]",),
    "classification": ("adapter.last_layers=1",),
}
"""Which few layers are adapted."""

if __name__ == "__main__":
    typer.run(main)
