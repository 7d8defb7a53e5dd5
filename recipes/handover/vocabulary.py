"""A tokenizer as llama.cpp reads it: tokens, merges, special tokens, and how text is cut up.

GGUF names the rule that cuts a text into words before merges (``tokenizer.ggml.pre``), it does not
hold it. A wrong name raises no error anywhere: the engine then reads other tokens than the model
was trained on. So the name comes from the tokenizer's own rule, and what has no known name is
refused. The rules are those of llama.cpp's ``src/llama-vocab.cpp`` (llama-cpp-python 0.3.36).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf

from finetune import checkpoint as checkpoints
from recipes.errors import InputError

HAND_OVER = "convert it with llama.cpp's own convert_hf_to_gguf.py, and measure what comes out"

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT_2: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BYTES_ONLY = _GPT_2 | {"use_regex": False}
_DIGITS = {"type": "Digits", "individual_digits": True}
_SPLIT = {
    "type": "Split",
    "pattern": {"Regex": _LLAMA_3},
    "behavior": "Isolated",
    "invert": False,
}

RULES: tuple[tuple[str, list[dict[str, Any]], bool], ...] = (
    ("gpt-2", [_GPT_2], False),
    ("smollm", [_DIGITS, _GPT_2], False),
    ("llama-bpe", [_SPLIT, _BYTES_ONLY], True),
)
"""llama.cpp's name, the steps of the rule, and whether a word in the vocabulary skips merges."""


def pre_tokenizer(folder: Path) -> str:
    """Return llama.cpp's name of how a folder's tokenizer cuts text up before it merges.

    Raises:
        InputError: if it is no byte-level BPE, or its rule has no name here.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{folder} has no tokenizer.json, of which GGUF is made; {HAND_OVER}")
    told = json.loads(path.read_text(encoding="utf-8"))
    model = told["model"]
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback"):
        raise InputError(
            f"{path} is a {model.get('type')} tokenizer"
            f"{' with byte fallback' if model.get('byte_fallback') else ''}, and only byte-level "
            f"BPE can be written; {HAND_OVER}"
        )
    if not model.get("merges"):
        raise InputError(f"{path} has no merges, and llama.cpp reads no BPE without; {HAND_OVER}")
    if told.get("normalizer") is not None:
        raise InputError(
            f"{path} normalises text ({told['normalizer'].get('type')}), which llama.cpp would "
            f"not do; {HAND_OVER}"
        )
    rule = told.get("pre_tokenizer") or {}
    steps = rule.get("pretokenizers", [rule])
    kept = [{k: v for k, v in step.items() if k != "trim_offsets"} for step in steps]
    for name, wanted, skips_merges in RULES:
        if kept == wanted and bool(model.get("ignore_merges")) == skips_merges:
            return name
    kinds = [step.get("type") for step in steps]
    raise InputError(
        f"{path} cuts text up by {kinds}, for which no name of llama.cpp is known here (known: "
        f"{', '.join(name for name, _, _ in RULES)}); a wrong one would read other tokens without "
        f"an error, so it is not guessed; {HAND_OVER}"
    )


def write(writer: gguf.GGUFWriter, folder: Path, vocab_size: int) -> str:
    """Write a folder's tokenizer and chat template; return llama.cpp's name of its rule.

    Args:
        writer: before its header is written.
        folder: with ``tokenizer.json``.
        vocab_size: rows of the model's embedding; ids without a token become unused ones.

    Raises:
        InputError: as `pre_tokenizer`, or if the model has fewer rows than the tokenizer tokens.
    """
    name = pre_tokenizer(folder)
    tokenizer = checkpoints.load_tokenizer(folder)
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    if max(by_id) >= vocab_size:
        raise InputError(
            f"{folder}: the tokenizer has the token id {max(by_id)}, and the model only "
            f"{vocab_size} rows"
        )
    added = tokenizer.added_tokens_decoder
    tokens, kinds = [], []
    for number in range(vocab_size):
        if number not in by_id:
            kind = gguf.TokenType.UNUSED
        elif number not in added:
            kind = gguf.TokenType.NORMAL
        else:
            is_special = added[number].special
            kind = gguf.TokenType.CONTROL if is_special else gguf.TokenType.USER_DEFINED
        tokens.append(by_id.get(number, f"[PAD{number}]"))
        kinds.append(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    _write_special(writer, folder, tokenizer)
    return name


def _write_special(writer: gguf.GGUFWriter, folder: Path, tokenizer: Any) -> None:
    """Write special tokens, what the tokenizer puts around a text by itself, and the template."""
    adders = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for kind, add in adders.items():
        number = getattr(tokenizer, f"{kind}_token_id")
        if number is not None:
            add(number)
    others = sorted(checkpoints.stop_ids_of(folder, tokenizer) - {tokenizer.eos_token_id})
    if others:  # the file has room for one more; llama.cpp knows the usual ones by their text
        writer.add_eot_token_id(others[0])
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(whole[: len(whole) - len(bare)][:1] == [tokenizer.bos_token_id])
    writer.add_add_eos_token(whole != bare and whole[-1] == tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
