from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from eval import scoring
from eval.model import LanguageModel
from eval.scoring import Scorer
from eval.tokens import Tokens
from eval.trie import build, groups, shared_prefix

token_lists = st.lists(st.integers(0, 3), min_size=2, max_size=9)


@st.composite
def token_requests(draw: st.DrawFn) -> Tokens:
    """A request whose last token is scored, and perhaps others, in pieces."""
    ids = draw(token_lists)
    owners = [-1] * len(ids)
    piece = 0
    for i in range(1, len(ids)):
        if i == len(ids) - 1 or draw(st.booleans()):
            owners[i] = piece
            piece += draw(st.booleans()) and i < len(ids) - 1
    return Tokens(tuple(ids), tuple(owners), owners[-1] + 1)


@given(st.lists(token_requests(), min_size=1, max_size=12), st.integers(1, 40))
def test_each_request_is_in_one_group_and_each_scored_token_sees_its_own_past(
    requests: list[Tokens], max_nodes: int
) -> None:
    skip = shared_prefix(requests)
    merged = groups(requests, skip, max_nodes=max_nodes, width=64)
    assert sorted(i for members in merged for i in members) == list(range(len(requests)))
    seen: list[tuple[int, int, int]] = []
    for members in merged:
        trie = build(requests, members, skip)
        assert len(trie.ids) <= max_nodes or len(members) == 1
        sees = trie.sees_nn()
        for one in trie.scored:
            node = trie.rows[one.row]
            ancestors = [i for i in range(len(trie.ids)) if sees[node, i]]
            # depth-first order: the ancestors of a node, in order, are its text
            past = requests[one.request].ids[:skip] + tuple(trie.ids[i] for i in ancestors)
            assert [trie.depths[i] for i in ancestors] == list(range(len(ancestors)))
            request = requests[one.request]
            assert request.ids[: len(past)] == past
            assert request.ids[len(past)] == one.token
            assert request.owners[len(past)] == one.piece
            seen.append((one.request, len(past), one.piece))
    wanted = [
        (i, position, owner)
        for i, request in enumerate(requests)
        for position, owner in enumerate(request.owners)
        if owner >= 0
    ]
    assert sorted(seen) == sorted(wanted)


@given(st.lists(token_requests(), min_size=1, max_size=12))
def test_a_trie_has_one_node_for_each_distinct_prefix(requests: list[Tokens]) -> None:
    trie = build(requests, range(len(requests)), 0)
    prefixes = {r.inputs[:end] for r in requests for end in range(1, len(r.inputs) + 1)}
    assert len(trie.ids) == len(prefixes)


PREAMBLE = "Q: What is the capital of Norway? A: Oslo. "
ITEMS = [
    [(PREAMBLE + question, False), (answer, True)]
    for question, answers in [
        ("Q: Who wrote it? A:", (" Ibsen", " Hamsun", " nobody at all knows")),
        ("Q: Who read it? A:", (" You", " nobody")),
        ("Q: When was that, and where, and why? A:", (" then", " there", " because")),
    ]
    for answer in answers
]


def sizes() -> dict[str, Any]:
    return {"vocab_size": 260, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}


def gpt2(**more: Any) -> Any:
    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3, **sizes(), **more
    )
    return GPT2LMHeadModel(config).eval()


def mistral(sliding_window: int | None) -> Any:
    torch.manual_seed(0)
    config = MistralConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=sliding_window, initializer_range=0.3, **sizes(),
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def gpt_neo() -> Any:
    torch.manual_seed(0)
    config = GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
        window_size=60, max_position_embeddings=256, initializer_range=0.3, **sizes(),
    )  # fmt: skip
    return GPTNeoForCausalLM(config).eval()


def apart(model: Any, tokenizer: Any) -> list[float]:
    found = [LanguageModel(model, tokenizer).score([item])[0][0].value for item in ITEMS]
    assert len(set(found)) == len(found)
    return found


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["gpt2", "mistral"])
def test_tries_behind_a_kept_prefix_score_as_requests_apart(
    tokenizer: Any, kind: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_MAX_NODES", 60)  # several groups, so that a prefix is kept
    model = gpt2() if kind == "gpt2" else mistral(None)
    model.set_attn_implementation(attention)
    engine = LanguageModel(model, tokenizer)
    prefixes: list[int] = []
    true_read = engine._scorer._read_prefix
    engine._scorer._read_prefix = lambda p: (prefixes.append(len(p)), true_read(p))[1]  # type: ignore[method-assign, func-returns-value]
    found = [scores[0].value for scores in engine.score(ITEMS)]
    assert found == pytest.approx(apart(model, tokenizer), abs=1e-4)
    assert engine._scorer._takes_tries is True
    # of the check, which reads little, and then once for all
    assert prefixes == [scoring._CHECKED, len(PREAMBLE) + len("Q: Wh")]


@pytest.mark.parametrize("kind", ["mistral", "gpt-neo"])
def test_a_model_that_forgets_beyond_a_window_is_read_apart_where_that_matters(
    tokenizer: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mistral(sliding_window=60) if kind == "mistral" else gpt_neo()
    expected = apart(model, tokenizer)
    calls: list[int] = []
    true_read = Scorer._read
    monkeypatch.setattr(Scorer, "_read", lambda s, r: (calls.append(len(r)), true_read(s, r))[1])
    found = [scores[0].value for scores in LanguageModel(model, tokenizer).score(ITEMS)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert sum(calls) >= len(ITEMS)
