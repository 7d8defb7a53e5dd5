"""Modules that two pillars both need, and neither may import from the other: one text, twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def text_of(pillar: str, name: str) -> str:
    text = (ROOT / pillar / f"{name}.py").read_text(encoding="utf-8")
    text = re.sub(rf"^from {pillar}\.errors import \w+ as", "from .errors import", text, flags=re.M)
    return re.sub(rf"^from {pillar}\.", "from .", text, flags=re.M)


@pytest.mark.parametrize(
    "name", ["chat_patterns", "chat_rendering", "content_flow", "control_tokens", "thoughts"]
)
def test_training_and_evaluation_have_the_same_text_of_a_module(name: str) -> None:
    assert text_of("finetune", name) == text_of("eval", name)
