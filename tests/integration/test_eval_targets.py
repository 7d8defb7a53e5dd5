"""`assay eval` on published sets: many adapters on one base, and kill -9 at any moment."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from finetune import adapter as adapters
from finetune import checkpoint as checkpoints
from finetune.config import AdapterConfig
from finetune.quantization import VERSION, Quantization
from tests import tiny
from tests.cli import ROOT, assay_here


def write_pairs(path: Path, count: int, *, length: int = 3) -> Path:
    """Write a file in the form of CrowS-Pairs, of our own words."""
    rng = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "sent_more", "sent_less", "stereo_antistereo", "bias_type"])
        for i in range(count):
            words = [rng.choice(tiny.NOUNS) for _ in range(length)]
            more, less = " ".join([*words, "fee", str(i)]), " ".join([*words, "plan", str(i)])
            writer.writerow([i, more, less, rng.choice(["stereo", "antistereo"]), "age"])
    return path


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs.csv", 12)
    (tmp_path / "base").symlink_to(tiny_base)
    return tmp_path


def make_adapter(
    base_folder: Path,
    folder: Path,
    *,
    seed: int,
    is_idle: bool = False,
    quantization: str = "none",
    dtype: str = "float32",
    version: int = VERSION,
) -> Path:
    """Write an adapter with random factors, or one whose update is zero."""
    import torch

    base = checkpoints.load(
        base_folder,
        quantization=quantization,  # type: ignore[arg-type]
        dtype=getattr(torch, dtype),
        held_as=Quantization(quantization, compute_dtype=dtype, version=version),  # type: ignore[arg-type]
    )
    model = adapters.inject(base, AdapterConfig(rank=4, alpha=8.0))
    torch.manual_seed(seed)
    if not is_idle:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter.data, std=0.5)
    adapters.save(model, base, folder)
    return folder


def ask(folder: Path, *targets: object, out: str = "scores") -> Any:
    return assay_here(
        "eval", *targets, "--base", "base", "--task", "crows_pairs=pairs.csv",
        "--dtype", "float32", "--threads", 1, "-o", out, "--json", folder=folder,
    )  # fmt: skip


def samples_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "samples" / "crows_pairs.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_bare_base_leaves_a_report_and_samples(folder: Path) -> None:
    done = ask(folder)
    assert done.code == 0, done.err
    report = json.loads((folder / "scores" / "base" / "report.json").read_text())
    assert report["target"]["kind"] == "base"
    assert (report["target"]["quantization"], report["target"]["dtype"]) == ("none", "float32")
    assert report["tasks"]["crows_pairs"]["n"] == 12
    for sample in samples_of(folder / "scores" / "base"):
        assert len(sample["loglikelihoods"]) == len(sample["num_tokens"]) == 2
        assert {"id", "prediction", "target", "correct"} <= sample.keys()
    assert done.json() == {"base": report}


def test_five_adapters_and_their_base_are_asked_on_one_base_in_memory(
    folder: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [make_adapter(tiny_base, folder / f"a{seed}", seed=seed) for seed in range(5)]
    alone = {path.name: ask(folder, path, out=f"alone-{path.name}") for path in made[:2]}
    loads: list[Path] = []
    true_load = checkpoints.load
    monkeypatch.setattr(
        checkpoints, "load", lambda path, **more: (loads.append(path), true_load(path, **more))[1]
    )
    done = ask(folder, *made)
    assert done.code == 0, done.err
    assert len(loads) == 1
    assert list(done.json()) == ["base", "a0", "a1", "a2", "a3", "a4"]
    values = {
        name: [s["loglikelihoods"] for s in samples_of(folder / "scores" / name)]
        for name in done.json()
    }
    assert len({str(found) for found in values.values()}) == 6, "each answers by itself"
    for name, result in alone.items():
        assert result.code == 0, result.err
        assert samples_of(folder / f"alone-{name}" / name) == samples_of(folder / "scores" / name)
    again = ask(folder, *made)
    assert len(loads) == 1, "what is known is not asked again"
    assert again.json() == done.json()


def test_an_adapter_of_a_4_bit_base_is_asked_on_it_as_it_was_trained(
    folder: Path, tiny_base: Path
) -> None:
    made = make_adapter(tiny_base, folder / "a", seed=1, quantization="nf4", dtype="bfloat16")
    done = assay_here(
        "eval", made, "--base", "base", "--task", "crows_pairs=pairs.csv", "--dtype", "bfloat16",
        "--threads", 1, "-o", "scores", folder=folder,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "pct_stereotype" in done.out
    for name in ("base", "a"):
        target = json.loads((folder / "scores" / name / "report.json").read_text())["target"]
        assert (target["quantization"], target["dtype"]) == ("nf4", "bfloat16")
    assert samples_of(folder / "scores" / "a") != samples_of(folder / "scores" / "base")


def test_adapters_of_both_versions_of_4_bit_codes_are_asked_each_on_its_own(
    folder: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed, version in (("old", 1, 1), ("new", 1, VERSION), ("old2", 2, 1)):
        options: Any = {"seed": seed, "quantization": "nf4", "version": version}
        make_adapter(tiny_base, folder / name, **options)
        record = json.loads((folder / name / "assay.json").read_text())
        if version == 1:  # which no record of it says
            del record["quantization"]["version"]
            (folder / name / "assay.json").write_text(json.dumps(record))
    loads: list[int] = []
    true_load = checkpoints.load

    def load(path: Path, **more: Any) -> Any:
        base = true_load(path, **more)
        loads.append(base.quantization.version)
        return base

    monkeypatch.setattr(checkpoints, "load", load)
    done = ask(folder, "old", "new", "old2")
    assert done.code == 0, done.err
    assert sorted(loads) == [1, VERSION]
    assert sorted(done.json()) == ["base", "base-2", "new", "old", "old2"]


def test_an_adapter_that_changes_nothing_is_refused(folder: Path, tiny_base: Path) -> None:
    idle = make_adapter(tiny_base, folder / "idle", seed=0, is_idle=True)
    done = ask(folder, idle)
    assert done.code == 2
    assert "changes no logit" in done.said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "crows_pairs"), "wanted NAME=PATH"),
        (("--task", "crowspairs=pairs.csv"), "there is no set 'crowspairs'"),
        (("--task", "crows_pairs=pairs.csv", "--dtype", "float8"), "wanted auto, float32"),
        (("--task", "crows_pairs=pairs.csv", "--quantization", "int8"), "wanted nf4"),
        (("--task", "crows_pairs=missing.csv"), "missing.csv"),
        (("--task", "crows_pairs=pairs.csv") * 2, "asked for twice"),
        ((), "nothing to ask"),
    ],
)
def test_a_mistake_is_told_in_one_paragraph(
    folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = assay_here("eval", "--base", "base", *arguments, folder=folder)
    assert done.code == 2
    assert said in done.said


def test_an_adapter_folder_needs_its_base_named(folder: Path, tiny_base: Path) -> None:
    made = make_adapter(tiny_base, folder / "a", seed=1)
    done = assay_here("eval", made, "--task", "crows_pairs=pairs.csv", folder=folder)
    assert done.code == 2
    assert "add --base" in done.said


def without_times(folder: Path) -> dict[str, bytes]:
    report = json.loads((folder / "report.json").read_text())
    del report["num_seconds"]
    return {
        "report": json.dumps(report).encode(),
        "samples": (folder / "samples" / "crows_pairs.jsonl").read_bytes(),
    }


@pytest.mark.slow
def test_an_evaluation_killed_ten_times_ends_as_one_that_was_not(folder: Path) -> None:
    write_pairs(folder / "pairs.csv", 1500, length=60)
    assert ask(folder, out="whole").code == 0
    expected = without_times(folder / "whole" / "base")
    command = [
        *(sys.executable, "-m", "recipes.cli", "eval", "--base", "base", "-o", "killed"),
        *("--task", "crows_pairs=pairs.csv", "--dtype", "float32", "--threads", "1"),
    ]
    cache = folder / "killed" / "base" / "cache.jsonl"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    rng = random.Random(7)
    kills = 0
    while kills < 10:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        size = cache.stat().st_size if cache.exists() else 0
        # somewhere in the next tenth of what there is to do, or while it starts
        until = size + rng.randrange(1, 3000 * 100 // 12)
        while process.poll() is None:
            if (cache.stat().st_size if cache.exists() else 0) >= until:
                time.sleep(rng.random() * 0.05)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.wait()
        kills += 1
        if process.returncode == 0:
            break
    assert kills >= 5, "it must be killed while there is work to do"
    assert ask(folder, out="killed").code == 0
    assert without_times(folder / "killed" / "base") == expected
