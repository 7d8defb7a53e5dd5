"""Nothing is reported to anybody, and no code is fetched that was not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import ROOT

KERNELS = """
from pathlib import Path
def get_kernel(*names, **options):
    Path(__file__).with_name("asked").write_text(str(names))
    raise OSError("no network")
Path(__file__).with_name("imported").touch()
"""
TELLS = """
import json, sys
{first}
import finetune
{then}
from huggingface_hub import constants
print(json.dumps(constants.HF_HUB_DISABLE_TELEMETRY))
"""


def run(code: str, *path: Path) -> str:
    hidden = ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_OFFLINE")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in os.environ.items() if name not in hidden}
        | {"PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("first", ["", "import huggingface_hub"])
def test_the_hubs_library_reports_nothing_whoever_imported_it_first(first: str) -> None:
    assert json.loads(run(TELLS.format(first=first, then=""))) is True


@pytest.mark.parametrize(
    "library",
    ["importlib.util", pytest.param("bitsandbytes", marks=pytest.mark.slow)],
)
def test_no_library_fetches_compiled_code_from_the_hub(tmp_path: Path, library: str) -> None:
    """bitsandbytes does as it is imported, on processors with avx512_bf16."""
    (tmp_path / "kernels.py").write_text(KERNELS, encoding="utf-8")
    found = (
        f"import finetune, importlib.util, {library}; print(importlib.util.find_spec('kernels'))"
    )
    assert run(found, tmp_path).split() == ["None"]
    assert not (tmp_path / "imported").exists()
    run("import kernels", tmp_path)  # it is there for others
    assert (tmp_path / "imported").exists()


def test_the_trainer_of_trl_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer import base_trainer

    from finetune.trainers import ChatTrainer

    sent: list[str] = []
    monkeypatch.setattr(base_trainer, "send_telemetry", lambda *_, **__: sent.append("sent"))
    trainer = object.__new__(ChatTrainer)
    trainer._send_telemetry()
    assert not sent
    assert hasattr(base_trainer._BaseTrainer, "_send_telemetry"), "trl calls it by another name"
