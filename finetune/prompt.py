"""A prompt around every text that a classifier reads, put there by its tokenizer.

A causal language model says what comes next, so the state after a question about a text tells more
of its meaning than the state after the text (Jiang et al. 2023, arXiv:2307.16645). The tokenizer
adds the prompt where others add their start and end tokens. So it goes wherever the tokenizer goes,
into a merged folder and a pipeline, and nobody who asks the model has to know of it; and it stays
whole when a long text is cut.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune.config import TEXT
from finetune.errors import InputError


def put_around(tokenizer: Any, prompt: str) -> None:
    """Let the tokenizer put ``prompt`` around every single text that it encodes.

    What it adds by itself (a start or end token) is kept, outside the prompt. Texts that are
    encoded with ``add_special_tokens=False`` stay bare.

    Args:
        tokenizer: a fast one; changed in place.
        prompt: with ``{text}`` where the text stands.

    Raises:
        InputError: if the tokenizer is a slow one, which has no place for a prompt, or reads the
            text itself otherwise where it adds its own tokens.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "adapter.prompt: the base's tokenizer is a slow one; remove adapter.prompt"
        )
    from tokenizers.processors import TemplateProcessing

    def bare(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    whole, a = list(tokenizer("a")["input_ids"]), bare("a")
    start = next((i for i in range(len(whole)) if whole[i : i + len(a)] == a), None)
    if start is None:
        raise InputError(
            "adapter.prompt: the base's tokenizer changes a text when it puts its own tokens "
            "around it, so no prompt can be added; remove it"
        )
    before, after = prompt.split(TEXT)
    parts = {
        "before": whole[:start] + bare(before),
        "after": bare(after) + whole[start + len(a) :],
    }
    names = [name for name, ids in parts.items() if ids]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[name for name in ("before", "$A", "after") if name == "$A" or name in names],
        special_tokens=[
            {"id": name, "ids": parts[name], "tokens": tokenizer.convert_ids_to_tokens(parts[name])}
            for name in names
        ],
    )


def save(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer with its prompt over the one in ``folder``, whose other files are kept.

    Its settings then name the class that takes tokenizer.json as it stands: some others put their
    own start and end tokens in the prompt's place when they are loaded.
    """
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8", newline="\n")
