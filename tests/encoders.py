"""Small random encoders of each kind, with a tokenizer of words, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import tiny

KINDS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"max_position_embeddings": 66},
    "xlm-roberta": {"max_position_embeddings": 66},
    "camembert": {"max_position_embeddings": 66},
    "distilbert": {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4},
    "electra": {"embedding_size": 32},
    "mpnet": {"max_position_embeddings": 66},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "modernbert": {"global_attn_every_n_layers": 2},
    "nomic_bert": {},
}
"""By ``model_type``: what its configuration needs beyond the common sizes."""

_WORDS = ("my", "again", "hi", "why", "it", "costs", "euros", *tiny.NOUNS, *tiny.LABELS)


def make_tokenizer(*, is_roberta: bool = False) -> Any:
    """WordPiece of a few words, letters and digits, with a start and an end token around a text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = (
        ["<s>", "<pad>", "</s>", "<unk>"] if is_roberta else ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    )
    start, pad, end = (
        (names[0], names[1], names[2]) if is_roberta else (names[1], names[0], names[2])
    )
    letters = [chr(code) for code in (*range(97, 123), *range(48, 58), 46, 63)]
    pieces = [*names, *letters, *(f"##{one}" for one in letters), *dict.fromkeys(_WORDS)]
    made = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token=names[3])
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = {piece: i for i, piece in enumerate(pieces)}
    made.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, ids[start]), (end, ids[end])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        cls_token=start,
        sep_token=end,
        pad_token=pad,
        unk_token=names[3],
        model_max_length=512,
    )


def make_encoder(
    folder: Path, kind: str = "bert", *, pooling: str | None = None, seed: int = 0, **sizes: Any
) -> Path:
    """Write a checkpoint folder as encoders are published: the encoder alone, in float32.

    Args:
        folder: to write.
        kind: a key of `KINDS`.
        pooling: ``mean`` or ``cls``: with the files of Sentence-Transformers that say so.
        seed: of the weights.
        sizes: of the configuration, beyond those of the kind.
    """
    import json

    import torch
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    tokenizer = make_tokenizer(is_roberta="after" in _positions(kind))
    common = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.1,  # far from uniform, so that a wrong weight shows
    }
    if kind != "distilbert":
        common |= {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = CONFIG_MAPPING[kind](**(common | KINDS[kind] | sizes))
        model = AutoModel.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        modes = {f"pooling_mode_{one}_tokens": one == pooling for one in ("mean", "max")}
        modes |= {"pooling_mode_cls_token": pooling == "cls", "word_embedding_dimension": 64}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
        types = (("", "Transformer"), ("1_Pooling", "Pooling"))
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
            for i, (path, name) in enumerate(types)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def _positions(kind: str) -> str:
    from finetune.encoder_kinds import ENCODERS

    return ENCODERS[kind].positions
