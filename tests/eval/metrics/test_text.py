"""SQuAD scores, ROUGE-L, chrF, perplexity, support and self-consistency."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from sacrebleu.metrics import CHRF

from eval.errors import EvaluationError
from eval.metrics.chrf import chrf, corpus_chrf
from eval.metrics.perplexity import perplexity
from eval.metrics.rouge_l import rouge_l
from eval.metrics.self_consistency import agreement_share, semantic_entropy
from eval.metrics.squad import exact_match, has_answer, normalize_answer, split_by_answer, token_f1
from eval.metrics.support import support

light = settings(max_examples=25, deadline=None)
words = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat", "a"]), max_size=6).map(" ".join)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The  Cat!", "cat"),
        ("an apple a day", "apple day"),
        ("$1,000.50", "100050"),
        ("Anna's theatre", "annas theatre"),
        ("...", ""),
        ("the", ""),
        ("naïve—dash", "naïve—dash"),  # only ASCII punctuation goes, as in the script
    ],
)
def test_normalisation_is_that_of_the_squad_script(text: str, wanted: str) -> None:
    assert normalize_answer(text) == wanted


@pytest.mark.parametrize(
    ("prediction", "golds", "match", "f1"),
    [
        ("the cat", ["Cat."], 1.0, 1.0),
        ("black cat", ["cat", "black dog"], 0.0, 2 / 3),
        ("cat cat", ["cat"], 0.0, 2 / 3),  # counted with repeats
        ("dog", ["cat"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("", [""], 1.0, 1.0),
        ("the", [""], 1.0, 1.0),  # normalises to nothing
        ("cat", [], 0.0, 0.0),
        ("", ["cat"], 0.0, 0.0),
        ("", ["the", "cat"], 0.0, 0.0),  # a gold that normalises to nothing is left out
        ("", ["the"], 1.0, 1.0),
    ],
)
def test_exact_match_and_f1_by_hand(
    prediction: str, golds: list[str], match: float, f1: float
) -> None:
    assert exact_match(prediction, golds) == match
    assert token_f1(prediction, golds) == pytest.approx(f1)


@light
@given(a=words, b=words)
def test_token_f1_is_symmetric_and_at_least_the_match(a: str, b: str) -> None:
    assert token_f1(a, [b]) == token_f1(b, [a])
    assert exact_match(a, [b]) <= token_f1(a, [b]) <= 1


def test_questions_are_split_by_whether_they_have_an_answer() -> None:
    golds = [["x"], [], [""], ["", "y"]]
    assert split_by_answer(golds) == ([0, 3], [1, 2])
    assert [has_answer(g) for g in golds] == [True, False, False, True]


def test_rouge_l_by_hand() -> None:
    # longest common subsequence "the cat" of 3 and 6 tokens: P = 2/3, R = 1/3
    assert rouge_l("the cat sat", "the cat is on the mat") == pytest.approx(4 / 9)
    assert rouge_l("", "the cat") == 0.0
    assert rouge_l("running", "run") == 0.0  # no stemming


@light
@given(a=words, b=words)
def test_rouge_l_is_the_package_s(a: str, b: str) -> None:
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    if b:
        assert rouge_l(a, b) == scorer.score(b, a)["rougeL"].fmeasure


@pytest.mark.parametrize("reference", ["", "!?", "日本語"])
def test_a_reference_without_tokens_has_no_rouge(reference: str) -> None:
    assert math.isnan(rouge_l("anything", reference))


def test_chrf_is_sacrebleu_s_by_a_hundred() -> None:
    wanted = CHRF().sentence_score("thirty day", ["thirty days", "a month"]).score / 100
    assert chrf("thirty day", ["thirty days", "a month"]) == wanted
    assert chrf("日本語", ["日本語"]) == pytest.approx(1.0)
    assert chrf("", ["x"]) == 0.0
    assert math.isnan(chrf("x", []))
    assert math.isnan(chrf("x", [" "]))


def test_corpus_chrf_takes_any_number_of_references() -> None:
    predictions = ["thirty day", "yes"]
    wanted = CHRF().corpus_score(predictions, [["thirty days", "yes"], ["a month", None]]).score
    found = corpus_chrf(predictions, [["thirty days", "a month"], ["yes"]])
    assert found == pytest.approx(wanted / 100)
    assert math.isnan(corpus_chrf(predictions, [["x"], []]))
    with pytest.raises(EvaluationError, match="at least one"):
        corpus_chrf([], [])


def test_perplexity_weighs_by_tokens() -> None:
    assert perplexity([-math.log(2)] * 3, [1, 1, 1]) == pytest.approx(2)
    assert perplexity([-3.0, -1.0], [3, 1]) == pytest.approx(math.e)
    assert perplexity([-1e9], [1]) == math.inf
    assert perplexity([-math.inf], [1]) == math.inf
    assert math.isnan(perplexity([math.nan], [1]))


def test_perplexity_needs_tokens() -> None:
    with pytest.raises(EvaluationError, match="at least one scored token"):
        perplexity([0.0], [0])
    with pytest.raises(EvaluationError, match="at least one item"):
        perplexity([], [])


PASSAGE = (
    "Employees of Acme Ltd may carry over thirty days of leave, up to EUR 1,000.50 in value. "
    "Ms Jane Roe in London approves it on 2024-01-05. One form is needed."
)


@pytest.mark.parametrize(
    "answer",
    [
        "thirty days",
        "30 days",
        "1000.50",
        "EUR 1,000.5",
        "Jane Roe",
        "jane roe",
        "Employees may carry over thirty days of leave.",
        "They may carry over leave.",
        "Jane Roe's",
        "1 form",
        "",
        "Yes.",
        "on 2024-01-05",
    ],
)
def test_what_the_passage_says_is_supported(answer: str) -> None:
    assert support(answer, PASSAGE).supported


@pytest.mark.parametrize(
    ("answer", "numbers", "names"),
    [
        ("45 days of leave", ("45",), ()),
        ("forty days of leave", ("40",), ()),
        ("EUR 1,000", ("1000",), ()),
        ("Paris", (), ("Paris",)),
        ("Paris.", (), ("Paris",)),
        ("Jane Smith approves it", (), ("Jane Smith",)),
        ("leave is approved by Jane London", (), ("Jane London",)),  # both words, another name
        ("London, Acme Ltd", (), ()),  # two names, parted by a comma
        ("GDPR leave of thirty days", (), ("GDPR",)),
        ("Staff in Rome and Oslo, 7 of 7", ("7",), ("Rome", "Oslo")),
    ],
)
def test_invented_numbers_and_names_are_found(
    answer: str, numbers: tuple[str, ...], names: tuple[str, ...]
) -> None:
    found = support(answer, PASSAGE)
    assert (found.unsupported_numbers, found.unsupported_entities) == (numbers, names)
    assert not (found.supported and (numbers or names))


def test_a_sentence_of_other_words_is_unsupported() -> None:
    found = support("thirty days of leave. the weather was lovely", PASSAGE)
    assert (found.supported, found.share) == (False, 0.0)
    assert not found.unsupported_numbers + found.unsupported_entities


def test_the_threshold_is_inclusive() -> None:
    # words: carry, money; pairs: carry money -> 1 of 3
    assert support("carry money", PASSAGE, threshold=1 / 3).supported
    assert not support("carry money", PASSAGE, threshold=0.34).supported


def test_an_answer_without_content_has_no_share() -> None:
    assert math.isnan(support("Yes, it is.", PASSAGE).share)


def test_nothing_supports_a_claim_in_an_empty_passage() -> None:
    assert not support("thirty days", "").supported


@light
@given(text=st.text(max_size=60))
def test_a_passage_supports_itself(text: str) -> None:
    assert support(text, text).supported


def test_agreement_and_entropy_by_hand() -> None:
    answers = ["30 days", "the 30 days", "a year", "A year!", "never"]
    assert agreement_share(answers) == pytest.approx(2 / 10)
    shares = (0.4, 0.4, 0.2)
    assert semantic_entropy(answers) == pytest.approx(-sum(p * math.log(p) for p in shares))


def test_answers_that_all_agree_have_no_entropy() -> None:
    assert agreement_share(["x"] * 5) == 1.0
    assert semantic_entropy(["x"] * 5) == 0.0
    assert math.copysign(1, semantic_entropy(["x"] * 5)) == 1
    assert semantic_entropy(["u", "v", "w"]) == pytest.approx(math.log(3))


def test_one_answer_says_nothing_of_consistency() -> None:
    assert math.isnan(agreement_share(["x"]))
    assert math.isnan(semantic_entropy(["x"]))
    with pytest.raises(EvaluationError, match="at least one"):
        agreement_share([])


def test_the_threshold_of_agreement_is_inclusive() -> None:
    # F1 of 3 and 4 tokens with 3 in common: 6/7; of 2 and 3 with 2: 4/5; of 1 and 2 with 1: 2/3
    assert agreement_share(["b c", "b c d"], threshold=0.8) == 1.0
    assert agreement_share(["b", "b c"]) == 0.0
