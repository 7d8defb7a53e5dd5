from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from transformers import MambaConfig, MambaForCausalLM, PreTrainedTokenizerFast

from eval.cache import Cache
from eval.classifier import Classifier, ZeroShotClassifier
from eval.errors import EvaluationError
from eval.model import LanguageModel, Pieces
from eval.scoring import Scorer

CHAT = [
    {"role": "user", "content": "Where is my order?"},
    {"role": "assistant", "content": "It left on Monday."},
    {"role": "user", "content": "Thanks. When will it be here?"},
    {"role": "assistant", "content": "On Thursday, before noon."},
]
QUESTION = "<|user|>\nWhat is the colour of the sky in winter?<|end|>\n<|assistant|>\n"
REQUESTS: list[Pieces] = [
    (("What is it?", False), (" A cat.", True)),
    (("", False), ("A sentence of its own.", True)),
    (("a longer context than the others have", False), ("x", True), (" and ", False), ("yz", True)),
    ((QUESTION, False), ("grey", True)),
    ((QUESTION, False), ("mostly blue, I think", True)),
    (("Another context, shared as well: ", False), ("one", True)),
    ((QUESTION, False), ("g", True)),
    (("Another context, shared as well: ", False), ("two", True)),
    (("nothing to score", False), ("", True)),
]


@contextmanager
def counted_forwards(model: Any) -> Iterator[list[int]]:
    calls: list[int] = []
    handle = model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


def naive_scores(model: Any, tokenizer: Any, request: Pieces) -> list[tuple[float, int]]:
    """One request at a time, log-softmax over everything, in float64."""
    ids: list[int] = []
    owners: list[int] = []
    count = 0
    for text, scored in request:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += tokens
        owners += [count if scored else -1] * len(tokens)
        count += scored
    if owners and owners[0] >= 0:
        ids, owners = [tokenizer.bos_token_id, *ids], [-1, *owners]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    found = [[0.0, 0] for _ in range(count)]
    for t in range(1, len(ids)):
        if owners[t] >= 0:
            found[owners[t]][0] += float(logits[t - 1, ids[t]])
            found[owners[t]][1] += 1
    return [(value, int(num)) for value, num in found]


@pytest.mark.parametrize("max_tokens", [1, 70, 8192])
def test_scores_are_those_of_one_request_at_a_time(
    causal_model: Any, tokenizer: Any, max_tokens: int
) -> None:
    engine = LanguageModel(causal_model, tokenizer, max_tokens_per_batch=max_tokens)
    shown: list[int] = []
    scores = engine.score(REQUESTS, shown.append)
    for request, found in zip(REQUESTS, scores, strict=True):
        expected = naive_scores(causal_model, tokenizer, request)
        assert [s.num_tokens for s in found] == [num for _, num in expected]
        assert [s.value for s in found] == pytest.approx([v for v, _ in expected], abs=1e-4)
    assert engine._scorer._takes_tries is True
    assert sum(shown) == len(REQUESTS)


def test_a_model_that_keeps_something_else_than_keys_and_values_is_read_apart(
    tokenizer: Any,
) -> None:
    torch.manual_seed(0)
    model = MambaForCausalLM(
        MambaConfig(
            vocab_size=260, hidden_size=16, num_hidden_layers=1, state_size=4, pad_token_id=258,
            bos_token_id=256, eos_token_id=257,
        )
    ).eval()  # fmt: skip
    engine = LanguageModel(model, tokenizer)
    scores = engine.score(REQUESTS)
    assert engine._scorer._takes_tries is False
    expected = [naive_scores(model, tokenizer, request) for request in REQUESTS]
    assert [s.value for found in scores for s in found] == pytest.approx(
        [value for found in expected for value, _ in found], abs=1e-4
    )


def test_where_tries_change_the_scores_requests_are_read_apart(
    causal_model: Any,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    true_read = Scorer._read_tries

    def wrong_read(self: Scorer, *args: Any) -> Any:
        return [
            (i, [(value + 0.5, *more) for value, *more in scores])
            for i, scores in true_read(self, *args)
        ]

    expected = LanguageModel(causal_model, tokenizer).score(REQUESTS)
    monkeypatch.setattr(Scorer, "_read_tries", wrong_read)
    found = LanguageModel(causal_model, tokenizer).score(REQUESTS)
    assert [s.value for scores in found for s in scores] == pytest.approx(
        [s.value for scores in expected for s in scores], abs=1e-4
    )
    assert "one request at a time" in caplog.text


def test_in_16_bits_rounding_is_told_from_a_mask_that_is_not_heeded(
    causal_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(causal_model).bfloat16()
    for parameter in model.parameters():
        parameter.data *= 3  # sure of itself, so that a wrong context shows
    engine = LanguageModel(model, tokenizer)
    engine.score(REQUESTS)
    assert engine._scorer._takes_tries is True

    def itself_alone(_: Scorer, sees_B1NM: Any) -> Any:
        N, M = sees_B1NM.shape[2:]
        return torch.eye(M, dtype=torch.bool)[M - N :].expand_as(sees_B1NM)

    monkeypatch.setattr(Scorer, "_mask", itself_alone)
    engine = LanguageModel(model, tokenizer)
    engine.score(REQUESTS)
    assert engine._scorer._takes_tries is False


def test_a_text_that_opens_with_the_start_token_is_not_given_a_second_one(
    causal_model: Any, tokenizer: Any
) -> None:
    engine = LanguageModel(causal_model, tokenizer)
    with_start, without = engine.loglikelihoods([("", "<|start|>hello"), ("", "hello")])
    assert with_start == without
    assert with_start.num_tokens == 5
    assert with_start.per_token == pytest.approx(with_start.value / 5)
    assert math.isnan(engine.loglikelihoods([("a", "")])[0].per_token)


def test_the_words_of_the_assistant_are_scored_and_nothing_else(
    causal_model: Any, tokenizer: Any
) -> None:
    engine = LanguageModel(causal_model, tokenizer)
    pieces = engine.dialogue(CHAT)
    assert [text for text, scored in pieces if scored] == [
        "It left on Monday.",
        "On Thursday, before noon.",
    ]
    whole = tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert whole == "".join(text for text, _ in pieces) + "<|end|>\n"
    assert engine.dialogue([CHAT[1], *CHAT[2:]])[0][0].startswith("<|assistant|>\nIt left")
    [score] = engine.score([pieces])
    assert [s.num_tokens for s in score] == [18, 25]


def test_pairs_put_all_replies_behind_one_context(causal_model: Any, tokenizer: Any) -> None:
    engine = LanguageModel(causal_model, tokenizer)
    pairs = engine.pairs(CHAT[:3], ["yes", " not yet "])
    assert pairs == [(engine.prompt(CHAT[:3]), "yes"), (engine.prompt(CHAT[:3]), "not yet")]


def with_template(tokenizer: Any, template: str | None) -> Any:
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


def test_words_that_a_template_puts_before_the_reply_are_not_scored(
    causal_model: Any, tokenizer: Any
) -> None:
    thinking = (
        "{% for m in messages %}{{ m['role'] }}:{% if m['role'] == 'assistant' %}<think></think>"
        "{% endif %} {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    engine = LanguageModel(causal_model, with_template(tokenizer, thinking))
    pieces = engine.dialogue(CHAT[:2])
    assert [text for text, scored in pieces if scored] == ["It left on Monday."]
    assert engine.pairs(CHAT[:1], ["a", "b"])[1][1] == "b"
    plain = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    engine = LanguageModel(causal_model, with_template(tokenizer, plain))
    assert [text for text, scored in engine.dialogue(CHAT[:2]) if scored] == [" It left on Monday."]
    assert engine.pairs(CHAT[:1], ["a", "b"])[1][1] == " b"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        ("{{ raise_exception('no system role') }}", "refuses"),
        ("{% for m in messages[-1:] %}{{ m['content'] }}{% endfor %}", "rewrites"),
    ],
)
def test_a_template_that_will_not_do_is_refused(
    causal_model: Any, tokenizer: Any, template: str | None, message: str
) -> None:
    engine = LanguageModel(causal_model, with_template(tokenizer, template))
    with pytest.raises(EvaluationError, match=message):
        engine.dialogue(CHAT)


def test_a_chat_without_a_reply_is_refused(causal_model: Any, tokenizer: Any) -> None:
    with pytest.raises(EvaluationError, match="without a reply"):
        LanguageModel(causal_model, tokenizer).dialogue(CHAT[:1])


def test_an_item_beyond_the_context_window_is_refused(causal_model: Any, tokenizer: Any) -> None:
    engine = LanguageModel(causal_model, tokenizer)
    with pytest.raises(EvaluationError, match="2048"):
        engine.loglikelihoods([("a" * 2048, "bc")])
    with pytest.raises(EvaluationError, match="2048"):
        engine.generate(["a" * 2040], max_new_tokens=9)


def test_a_broken_model_gives_an_error_and_no_figure(tokenizer: Any, causal_model: Any) -> None:
    broken = copy.deepcopy(causal_model)
    broken.model.norm.weight.data[0] = math.nan
    with pytest.raises(EvaluationError, match="nan"):
        LanguageModel(broken, tokenizer).loglikelihoods([("a", "b")])


def test_each_request_is_asked_once(causal_model: Any, tokenizer: Any) -> None:
    engine = LanguageModel(causal_model, tokenizer)
    with counted_forwards(causal_model) as calls:
        shown: list[int] = []
        one, again = engine.loglikelihoods([("a", "b"), ("a", "b")], shown.append)
        assert (len(calls), one, sum(shown)) == (1, again, 2)
        engine.loglikelihoods([("a", "b")])
        engine.generate(["a"], max_new_tokens=2)
        num_calls = len(calls)
        engine.generate(["a"], max_new_tokens=2)
        assert len(calls) == num_calls


def test_replies_are_those_of_one_prompt_at_a_time(causal_model: Any, tokenizer: Any) -> None:
    prompts = ["a", "Tell me more about it.", "", "zz top", "a"]
    prompts[2] = "<|assistant|>"
    together = LanguageModel(causal_model, tokenizer).generate(prompts, max_new_tokens=8)
    apart = [
        LanguageModel(causal_model, tokenizer).generate([prompt], max_new_tokens=8)[0]
        for prompt in prompts
    ]
    assert together == apart
    assert all(len(replies) == 1 for replies in together)


def test_replies_behind_a_prefix_that_is_read_once_are_the_same(
    causal_model: Any, tokenizer: Any
) -> None:
    prompts = [QUESTION + more for more in ("", "It is", "The colour that I would", "no")]
    manner: dict[str, Any] = {"max_new_tokens": 8}
    for more in ({}, {"num_samples": 3, "temperature": 1.0}):
        together = LanguageModel(causal_model, tokenizer).generate(prompts, **manner, **more)
        apart = [
            LanguageModel(causal_model, tokenizer).generate([prompt], **manner, **more)[0]
            for prompt in prompts
        ]
        assert together == apart
    assert len({tuple(replies) for replies in together}) == len(prompts)


def test_a_reply_ends_before_a_stop_text(causal_model: Any, tokenizer: Any) -> None:
    engine = LanguageModel(causal_model, tokenizer)
    [[whole]] = engine.generate([QUESTION], max_new_tokens=12, is_stripped=False)
    end = whole[4:6]
    [[cut]] = engine.generate([QUESTION], max_new_tokens=12, is_stripped=False, stop=[end])
    assert cut == whole[: whole.index(end)]


def test_samples_differ_repeat_and_leave_the_generator_alone(
    causal_model: Any, tokenizer: Any
) -> None:
    def draw(prompts: list[str]) -> list[list[str]]:
        return LanguageModel(causal_model, tokenizer).generate(
            prompts, max_new_tokens=6, num_samples=3, temperature=1.0, seed=1
        )

    before = torch.get_rng_state()
    first = draw(["one", "another"])
    assert torch.equal(before, torch.get_rng_state())
    assert draw(["another"])[0] == first[1]
    assert len(set(first[0])) > 1
    assert len(first[0]) == 3
    with pytest.raises(ValueError, match="samples"):
        LanguageModel(causal_model, tokenizer).generate(["a"], max_new_tokens=2, num_samples=2)


def test_the_models_own_sampling_defaults_do_not_leak(
    causal_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = LanguageModel(causal_model, tokenizer).generate(["hello"], max_new_tokens=8)
    for name, value in {
        "do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 5, "repetition_penalty": 2.0,
    }.items():  # fmt: skip
        monkeypatch.setattr(causal_model.generation_config, name, value)
    engine = LanguageModel(causal_model, tokenizer)
    assert engine.generate(["hello"], max_new_tokens=8) == expected


def test_a_model_in_training_mode_is_evaluated_without_dropout_and_handed_back(
    causal_model: Any, tokenizer: Any
) -> None:
    modes: list[bool] = []
    handle = causal_model.register_forward_pre_hook(lambda m, _: modes.append(m.training))
    try:
        causal_model.train()
        LanguageModel(causal_model, tokenizer).loglikelihoods([("a", "b")])
        assert causal_model.training
    finally:
        handle.remove()
        causal_model.eval()
    assert modes == [False]


def test_a_killed_evaluation_resumes_at_the_request(
    causal_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "responses.jsonl"

    def engine(identity: str = "base+adapter") -> LanguageModel:
        return LanguageModel(
            causal_model, tokenizer, cache=Cache(path, identity), max_tokens_per_batch=1
        )

    class Killed(Exception):
        pass

    def kill(done: int, seen: list[int] = []) -> None:  # noqa: B006 (counts over calls)
        seen.append(done)
        if len(seen) == 4:
            raise Killed

    with pytest.raises(Killed):
        engine().score(REQUESTS, kill)
    with path.open("ab") as file:
        file.write(b'{"key": "torn')
    with counted_forwards(causal_model) as calls:
        resumed = engine().score(REQUESTS)
        num_resumed = len(calls)
        assert engine().score(REQUESTS) == resumed
        assert len(calls) == num_resumed, "the second run asks nothing"
        assert engine("other weights").score(REQUESTS) == resumed
        assert len(calls) - num_resumed > num_resumed, "other weights are asked everything"
    assert len(Cache(path, "base+adapter")) == 2 * len(REQUESTS)


@settings(max_examples=15)
@given(st.sets(st.integers(0, len(REQUESTS) - 1)), st.sampled_from([70, 8192]))
def test_what_is_known_already_changes_no_bit_of_the_rest(
    causal_model: Any, tokenizer: Any, known: set[int], max_tokens: int
) -> None:
    def engine(cache: Cache) -> LanguageModel:
        return LanguageModel(causal_model, tokenizer, max_tokens_per_batch=max_tokens, cache=cache)

    whole = Cache(None, "")
    expected = engine(whole).score(REQUESTS)
    partly = Cache(None, "")
    for i in known:
        key = partly.key("score", [[text, scored] for text, scored in REQUESTS[i]], None)
        partly.put(key, whole.get(key))
    assert engine(partly).score(REQUESTS) == expected


def test_bfloat16_sums_are_not_rounded_to_bfloat16(causal_model: Any, tokenizer: Any) -> None:
    low = copy.deepcopy(causal_model).to(torch.bfloat16)
    texts = [("", "A rather long sentence, of which the sum needs digits.")]
    [exact], [found] = (
        LanguageModel(model, tokenizer).loglikelihoods(texts) for model in (causal_model, low)
    )
    # bf16 logits have 3 digits, so each token is off by about 0.02 nats
    assert found.value == pytest.approx(exact.value, abs=0.05 * exact.num_tokens)
    assert found.value != float(torch.tensor(found.value).to(torch.bfloat16))


@pytest.mark.parametrize("is_multi_label", [False, True])
def test_class_probabilities_are_those_of_one_text_at_a_time(
    class_model: Any, tokenizer: Any, is_multi_label: bool
) -> None:
    texts = ["short", "a much longer text than the other one", "short", "", "z" * 40]
    classifier = Classifier(
        class_model, tokenizer, ("a", "b", "c"), is_multi_label=is_multi_label, max_length=30
    )
    shown: list[int] = []
    found = classifier.probabilities(texts, shown.append)
    assert found.shape == (5, 3)
    assert sum(shown) == 5
    for text, row in zip(texts, found, strict=True):
        ids = tokenizer(text)["input_ids"][:30] or [tokenizer.eos_token_id]
        with torch.no_grad():
            logits = class_model(input_ids=torch.tensor([ids])).logits[0].double()
        expected = logits.sigmoid() if is_multi_label else logits.softmax(0)
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)  # float32
    with pytest.raises(EvaluationError, match="3 classes"):
        Classifier(class_model, tokenizer, ("a", "b"))


def test_a_language_model_classifies_by_the_likeliest_name(
    causal_model: Any, tokenizer: Any
) -> None:
    engine = LanguageModel(causal_model, tokenizer)
    labels = ("refund_status", "other", "gift_card")
    shown: list[int] = []
    p = ZeroShotClassifier(engine, labels, "Which kind of ticket is this?").probabilities(
        ["Where is my money?", "Hello"], shown.append
    )
    prompt = "Which kind of ticket is this?\n\nText: Hello\nLabel:"
    context = engine.prompt([{"role": "user", "content": prompt}])
    expected = np.exp(
        [
            naive_per_token(causal_model, tokenizer, context, name.replace("_", " "))
            for name in labels
        ]
    )
    np.testing.assert_allclose(p[1], expected / expected.sum(), atol=1e-5)
    assert shown == [1, 1] or sum(shown) == 2


def naive_per_token(model: Any, tokenizer: Any, context: str, text: str) -> float:
    [(value, num)] = naive_scores(model, tokenizer, ((context, False), (text, True)))
    return value / num


Maker = Callable[..., Any]


def test_a_model_with_an_adapter_is_scored_with_it(causal_model: Any, tokenizer: Any) -> None:
    adapted = get_peft_model(
        copy.deepcopy(causal_model), LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM")
    ).eval()
    engine = LanguageModel(adapted, tokenizer)
    scores = engine.score(REQUESTS)
    assert engine._scorer._takes_tries is True
    expected = [naive_scores(adapted, tokenizer, request) for request in REQUESTS]
    assert [s.value for found in scores for s in found] == pytest.approx(
        [value for found in expected for value, _ in found], abs=1e-4
    )
    plain = LanguageModel(causal_model, tokenizer)
    assert engine.score(REQUESTS[:1]) != plain.score(REQUESTS[:1])
    prompts = [QUESTION, "another"]
    assert engine.generate(prompts, max_new_tokens=8) != plain.generate(prompts, max_new_tokens=8)


def test_joint_tokens_are_cut_where_the_reference_cuts_them(
    causal_model: Any, tokenizer: Any
) -> None:
    engine = LanguageModel(causal_model, tokenizer)
    pairs = [("What is it? ", "A cat."), ("", "Alone."), ("Q:", " x")]
    found = engine.loglikelihoods(pairs, joint=True)
    # the space at a context's end belongs to what is scored; one token a byte, so no other change
    apart = engine.loglikelihoods([("What is it?", " A cat."), ("", "Alone."), ("Q:", " x")])
    assert [ll.num_tokens for ll in found] == [7, 6, 2]
    assert [ll.value for ll in found] == pytest.approx([ll.value for ll in apart], abs=1e-4)


def test_a_text_is_greedy_when_each_token_is_the_first_choice(
    causal_model: Any, tokenizer: Any
) -> None:
    engine = LanguageModel(causal_model, tokenizer)
    ids = tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    best: list[int] = []
    for _ in range(4):
        with torch.no_grad():
            logits = causal_model(input_ids=torch.tensor([ids + best])).logits
        best.append(int(logits[0, -1].argmax()))
    wrong = [*best[:3], (best[3] + 1) % 256]
    found = engine.score_tokens([(ids, best), (ids, wrong), (ids, wrong[:3]), (ids, [])])
    assert [ll.is_greedy for ll in found] == [True, False, True, True]
    assert [ll.num_tokens for ll in found] == [4, 4, 3, 0]


def test_each_scored_token_gets_its_own_loglikelihood(causal_model: Any, tokenizer: Any) -> None:
    ids = tokenizer("It left on Monday.", add_special_tokens=False)["input_ids"]
    masks = ([True] * len(ids), [i % 3 == 0 for i in range(len(ids))], [False] * len(ids))
    found = LanguageModel(causal_model, tokenizer).token_loglikelihoods([(ids, m) for m in masks])
    with torch.no_grad():
        logits = causal_model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    for mask, scores in zip(masks, found, strict=True):
        # nothing stands before the first token, so it is not scored whatever the mask says
        expected = [float(logits[t - 1, ids[t]]) for t in range(1, len(ids)) if mask[t]]
        assert scores == pytest.approx(expected, abs=1e-4)


def test_a_token_that_spans_the_boundary_is_reported(
    causal_model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    letters = {c: i for i, c in enumerate("abcd")}
    made = Tokenizer(models.BPE(vocab={**letters, "bc": 4}, merges=[("b", "c")]))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="a")  # noqa: S106
    engine = LanguageModel(causal_model, wrapped)
    [found] = engine.loglikelihoods([("ab", "cd")], joint=True)
    assert found.num_tokens == 1  # "bc" counts as the context's
    assert "1 of 1 requests" in caplog.text
    with pytest.raises(EvaluationError, match="swallows"):
        engine.loglikelihoods([("ab", "c")], joint=True)
