"""The story of a run, where two processes might tell it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes import pipeline
from recipes.console import Narrator
from recipes.errors import InputError
from recipes.locks import locked
from recipes.run import open_run
from tests.recipes.release.folders import make_run


@pytest.mark.parametrize("into", ["dequantised", "original"])
def test_a_run_that_another_process_holds_is_neither_read_nor_copied_for_a_merge(
    tmp_path: Path, tiny_base: Path, into: str
) -> None:
    folder = make_run(tmp_path, tiny_base)
    (folder / "decision.json").unlink()  # the other process is about to write it
    (folder / "eval" / "merged" / "decision.json").unlink()
    with locked(folder), pytest.raises(InputError, match="another process is at work"):
        pipeline.merge_again(open_run(folder), Narrator(), into=into)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
