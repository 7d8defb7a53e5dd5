"""Which device is computed on, and what is refused there. Apple's GPU is imitated: torch says it
is there, and nothing is computed on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune import cache, checkpoint, gguf_base, identity, machine, template_file
from finetune.config import AdapterConfig, CheckpointConfig, TrainConfig
from finetune.errors import InputError
from finetune.train import train
from tests import tiny


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(machine.DEVICE, "mps")


@pytest.mark.parametrize(
    ("wanted", "cuda", "mps", "found"),
    [
        (None, False, False, "cpu"),
        (None, True, False, "cuda:0"),
        (None, False, True, "cpu"),  # nobody compared its numbers: only if it is named
        ("cpu", True, False, "cpu"),
        ("mps", False, True, "mps"),
        (" CUDA ", True, False, "cuda:0"),
    ],
)
def test_the_device_is_cuda_or_the_processor_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, cuda: bool, mps: bool, found: str
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if wanted is None:
        monkeypatch.delenv(machine.DEVICE, raising=False)
    else:
        monkeypatch.setenv(machine.DEVICE, wanted)
    assert str(machine.device()) == found


@pytest.mark.parametrize("wanted", ["mps", "tpu"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(machine.DEVICE, wanted)
    with pytest.raises(InputError, match=rf"ASSAY_DEVICE names the device '{wanted}'.* has cpu"):
        machine.device()


@pytest.mark.usefixtures("apple")
def test_apples_gpu_computes_in_float32() -> None:
    assert machine.compute_dtype() == torch.float32


@pytest.mark.usefixtures("apple")
def test_a_4_bit_base_is_refused_on_apples_gpu_with_the_way_out(tiny_base: Path) -> None:
    with pytest.raises(InputError, match=r"nf4 .*quantization: none, or .* ASSAY_DEVICE=cpu"):
        checkpoint.load(tiny_base, quantization="nf4")


def test_what_computes_in_float64_is_refused_on_apples_gpu(
    tiny_base: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = tiny.load_base(tiny_base, labels=tiny.LABELS)
    rows = tiny.class_examples(base.tokenizer, tiny.class_rows(4))
    request.getfixturevalue("apple")
    adapter = AdapterConfig(rank=4, alpha=8.0, whiten_head=True)
    with pytest.raises(InputError, match=r"adapter.whiten_head computes in float64.*=cpu"):
        train(base, rows, (), adapter=adapter, config=TrainConfig(), folder=tmp_path)


def test_a_processor_computes_in_float64() -> None:
    machine.refuse_float64("anything")


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that cannot be made, for root neither: its parent is a file."""
    (tmp_path / "a-file").touch()
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "a-file" / "cache"))
    return tmp_path


@pytest.mark.usefixtures("no_cache")
def test_a_folder_needs_no_cache(tiny_base: Path) -> None:
    assert checkpoint.resolve(CheckpointConfig(checkpoint=str(tiny_base))) == tiny_base.resolve()
    assert identity.identity(tiny_base).startswith("sha256:")


def test_a_base_that_needs_the_cache_says_how_to_move_it(no_cache: Path, tiny_base: Path) -> None:
    (no_cache / "base.gguf").write_bytes(b"GGUF")
    with pytest.raises(cache.NoCache, match=r"cannot be written \(Not a directory.*ASSAY_CACHE"):
        gguf_base.materialize(no_cache / "base.gguf")
    (no_cache / "own.jinja").write_text(tiny.CHATML, encoding="utf-8")
    with pytest.raises(cache.NoCache, match="ASSAY_CACHE"):
        template_file.with_template(tiny_base, no_cache / "own.jinja")


def test_a_user_without_a_home_needs_no_cache_for_a_folder(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in (cache.CACHE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(cache.NoCache, match="ASSAY_CACHE"):
        cache.cache_folder()
    assert identity.identity(tiny_base).startswith("sha256:")


def test_a_damaged_memory_of_an_identity_is_not_believed(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE, str(tmp_path))
    known = identity.identity(tiny_base)
    [remembered] = (tmp_path / "identities").iterdir()
    for damaged in (b"", b"\xff\xfe", b"sha256:1", b"sha256:" + b"0" * 63):
        remembered.write_bytes(damaged)
        assert identity.identity(tiny_base) == known
    assert remembered.read_text(encoding="utf-8") == known


def test_where_no_links_can_be_made_a_template_gets_copies_of_its_base(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    (tmp_path / "own.jinja").write_text(tiny.CHATML + " ", encoding="utf-8")
    linked = template_file.with_template(tiny_base, tmp_path / "own.jinja")
    monkeypatch.setattr(template_file, "_HAS_LINKS", False)
    copied = template_file.with_template(tiny_base, tmp_path / "own.jinja")
    assert copied != linked
    assert not [path for path in copied.iterdir() if path.is_symlink()]
    assert identity.identity(copied) == identity.identity(linked)
    assert template_file.with_template(tiny_base, tmp_path / "own.jinja") == copied


def test_torch_takes_the_threads_of_recipe_environment_or_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("finetune.cores.usable_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for wanted, found in ((1, 1), (None, 2)):
        machine.prepare_cpu(wanted)
        assert torch.get_num_threads() == found
    monkeypatch.delenv("OMP_NUM_THREADS")
    machine.prepare_cpu(None)
    assert torch.get_num_threads() == 3
