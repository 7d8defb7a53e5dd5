"""A two-layer checkpoint and a few rows, made on the spot: no download, no training.

Plain functions, so that a test's subprocess can make the same things.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|pad|>", "<|unused|>")

NOUNS = ("card", "loan", "fee", "pin", "rate", "bill", "plan", "code")
LABELS = ("card", "fee", "loan")


def make_tokenizer(*, chat_template: str | None = CHATML) -> Any:
    """One token a byte and four special ones; it stops at ``<|im_end|>``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, **names)
    wrapped.chat_template = chat_template
    return wrapped


def make_base(
    folder: Path,
    *,
    kind: str | None = None,
    seed: int = 0,
    max_shard_size: str = "1GB",
    **sizes: Any,
) -> Path:
    """Write a checkpoint folder: config, bfloat16 safetensors, tokenizer; the same for a seed.

    All linear layers are multiples of 64 in width, so that NF4's blocks fit. ``sizes`` override
    fields of the model's configuration; with ``kind``, the ``model_type`` of another architecture,
    they are all of it that has to do with size.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    tokenizer = make_tokenizer()
    common = {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.1,  # far from uniform, so that a wrong weight shows
    }
    llama = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }
    settings = common | ({} if kind else llama) | sizes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = CONFIG_MAPPING[kind or "llama"](**settings)
        model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)
    return folder


def chat_rows(num: int, *, num_turns: int = 1) -> list[list[dict[str, str]]]:
    """Chats of one or more question-and-answer turns, of different lengths, no two alike."""
    rows = []
    for i in range(num):
        messages = []
        for turn in range(num_turns):
            noun = NOUNS[(i + turn) % len(NOUNS)]
            asked = f"{'Hi. ' * (i % 3)}Why {noun} {i}?"
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": f"{noun.upper()} {i * 7 % 10}"})
        rows.append(messages)
    return rows


def qa_rows(num: int) -> list[dict[str, Any]]:
    """Passages with a question; every fourth has no answer in its passage."""
    rows = []
    for i in range(num):
        noun = NOUNS[i % len(NOUNS)]
        rows.append(
            {
                "id": f"q{i}",
                "context": f"The {noun} costs {i + 2} euros.",
                "question": f"What does the {noun} cost?" if i % 4 else "Who made it?",
                "answers": [f"{i + 2} euros"] if i % 4 else [],
            }
        )
    return rows


def class_rows(num: int) -> list[dict[str, str]]:
    """Texts with one of `LABELS`; the text names its label, so a model can learn it."""
    rows = []
    for i in range(num):
        label = LABELS[i % len(LABELS)]
        rows.append({"id": f"c{i}", "text": f"my {label} {'again ' * (i % 4)}{i}", "label": label})
    return rows


def chat_examples(tokenizer: Any, rows: Sequence[Sequence[dict[str, str]]]) -> list[Any]:
    """Encode chats as the program does."""
    from finetune.encoding import encode_chat

    stops = frozenset([tokenizer.eos_token_id])
    return [
        encode_chat(tokenizer, row, id=f"r{i}", max_length=256, stop_ids=stops)  # type: ignore[arg-type]
        for i, row in enumerate(rows)
    ]


def class_examples(tokenizer: Any, rows: Sequence[dict[str, str]]) -> list[Any]:
    """Encode labelled texts as the program does."""
    from finetune.encoding import encode_text

    return [
        encode_text(
            tokenizer, r["text"], id=r["id"], max_length=256, label=LABELS.index(r["label"])
        )
        for r in rows
    ]


def load_base(
    folder: Path,
    quantization: Literal["nf4", "none"] = "none",
    *,
    dtype: str = "float32",
    labels: tuple[str, ...] = (),
    is_multi_label: bool = False,
    prompt: str | None = None,
    seed: int = 0,
) -> Any:
    """Load a base, with a classification head where there are labels; float32 unless told."""
    import torch

    from finetune import checkpoint

    torch.manual_seed(seed)  # a new head comes from the global generator
    return checkpoint.load(
        folder,
        quantization=quantization,
        head="sequence-classification" if labels else "causal-lm",
        labels=labels,
        is_multi_label=is_multi_label,
        prompt=prompt,
        dtype=getattr(torch, dtype),
    )


def as_if_trained(model: Any, seed: int = 1) -> Any:
    """Give a new adapter the values of a trained one, in no time.

    The factors are small multiples of 1/64 and 1/16, so that their products are exact in float32
    whatever the order in which they are added up, and tests may compare bit for bit.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        steps = torch.randint(-4, 5, parameter.shape, generator=generator).to(parameter)
        if "lora_A" in name:
            parameter.data = steps / 16
        elif "lora_B" in name:
            parameter.data = steps / 64
        elif "magnitude" in name:
            parameter.data = parameter.data * (1 + steps / 64)
        else:
            parameter.data = parameter.data + steps / 64
    return model


def logits(base: Any, model: Any, text: str = "Why card 7? It costs 12 euros.") -> Any:
    """Return what a model answers to a text, in float32."""
    from finetune.proof import logits_on

    return logits_on(base, model, [text])[0]
