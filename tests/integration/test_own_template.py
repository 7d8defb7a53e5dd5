"""A recipe with a chat template of its own that treats thoughts: run, merged, and changed since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.adapter_files import template_digest
from tests import thinking
from tests.cli import assay, write_recipe

pytestmark = pytest.mark.slow


def test_a_template_of_the_recipe_is_trained_with_evaluated_with_and_saved(
    tmp_path: Path, tiny_base: Path
) -> None:
    template = tmp_path / "own.jinja"
    template.write_text(thinking.OPENED)
    tasks = ["question_answering", "unsupported_answers"]
    path = write_recipe(
        tmp_path, "qa", tiny_base, name="own", eval={"tasks": tasks, "max_items": 4}
    )
    recipe = json.loads(path.read_text())
    recipe["base"] |= {"quantization": "none", "chat_template": "own.jinja"}
    path.write_text(json.dumps(recipe))
    (tmp_path / "elsewhere").mkdir()
    where = {"folder": tmp_path / "elsewhere"}
    done = assay("run", "../recipe.yaml", "--runs", "../runs", "--json", **where)
    assert done.code == 0, done.err
    run = tmp_path / "runs" / "own"
    record = json.loads((run / "record.json").read_text())
    assert record["base"]["chat_template"] == template_digest(thinking.OPENED)
    assert (run / "merged" / "chat_template.jinja").read_text() == thinking.OPENED
    samples = (run / "eval" / "adapter" / "samples" / "question_answering.jsonl").read_text()
    asked = [json.loads(line)["prompt"] for line in samples.splitlines()]
    assert all(prompt.endswith("<|im_start|>assistant\n<think>\n") for prompt in asked)

    template.write_text(thinking.OPENED + "{# changed #}")
    done = assay("run", "../recipe.yaml", "--runs", "../runs", **where)
    assert done.code == 5
    assert "was trained on the base" in done.err
