"""Small tokenizers of the kinds in use, made on the spot."""

from __future__ import annotations

from functools import cache
from typing import Any

from tests import tiny

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
TAGS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
"""Added tokens that are not called special, as in Qwen."""

_TEXTS = (
    "the user asked for a refund of the invoice and the parcel, and the assistant said yes",
    "system user assistant tool call think im start im end of text",
    "Which desk handles parcel case 12? Desk 12, by phone. <a> [b] {c} | 0.5 %",
)


@cache
def byte_level() -> Any:
    """BPE of bytes, as in GPT-2, Llama 3 and Qwen."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return _wrapped(made, trainer)


@cache
def unigram() -> Any:
    """Unigram with a space before each word, as in T5 and Gemma's forebears."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=90,
        special_tokens=["<unk>", *SPECIAL],
        unk_token="<unk>",  # noqa: S106 (a token of text)
        show_progress=False,
    )
    return _wrapped(made, trainer)


@cache
def sentence_piece() -> Any:
    """BPE with bytes for what it does not know, as in Llama 2, Mistral and Gemma."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    pieces = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *map(chr, range(33, 127)), "▁t", "th", "us", "er", "user", "im", "▁the", "the"]
    merges = [("▁", "t"), ("t", "h"), ("u", "s"), ("e", "r"), ("us", "er"), ("i", "m")]
    merges += [("th", "e"), ("▁t", "h")]
    pieces.append("▁th")
    made = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate(pieces)},
            merges=merges,
            unk_token="<unk>",  # noqa: S106
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens([AddedToken(s, normalized=False) for s in ("<unk>", *SPECIAL)])
    return _wrapped(made, None)


@cache
def word_piece() -> Any:
    """WordPiece of lower-case words, as in BERT; words are cut at blanks alone."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["[UNK]", *SPECIAL], show_progress=False
    )
    return _wrapped(made, trainer)


ALL = {
    "byte-level BPE": byte_level,
    "SentencePiece BPE": sentence_piece,
    "Unigram": unigram,
    "WordPiece": word_piece,
}


def _wrapped(made: Any, trainer: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    if trainer is not None:
        made.train_from_iterator(_TEXTS, trainer)
    made.add_tokens(list(TAGS))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, **names)
    wrapped.chat_template = tiny.CHATML.replace(
        "{% for message", "{# calls stand in <tool_call></tool_call> #}{% for message", 1
    )
    return wrapped
