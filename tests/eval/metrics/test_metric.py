"""Every metric as an `evaluate.Metric`: offline, without files, and refusing empty input."""

from __future__ import annotations

import inspect
import math
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import evaluate
import pytest

from eval import metrics
from eval.errors import EvaluationError
from eval.metrics.abstention import Abstention
from eval.metrics.accuracy import Accuracy
from eval.metrics.bbq import Bbq
from eval.metrics.calibration import Calibration
from eval.metrics.chrf import Chrf
from eval.metrics.context_gain import ContextGain
from eval.metrics.counterfactual import Counterfactual
from eval.metrics.group import GroupGap
from eval.metrics.macro_f1 import MacroF1
from eval.metrics.metric import LocalMetric, check_columns
from eval.metrics.no_answer import NoAnswer
from eval.metrics.per_class_recall import PerClassRecall
from eval.metrics.perplexity import Perplexity
from eval.metrics.rouge_l import RougeL
from eval.metrics.selective import Selective
from eval.metrics.self_consistency import SelfConsistency
from eval.metrics.squad import SquadV2
from eval.metrics.stereoset import StereoSet
from eval.metrics.stereotype import Stereotype
from eval.metrics.support import LexicalSupport
from eval.metrics.truthful import TruthfulChoice

LABELS: tuple[Any, Any] = (["a", "b", "b", "a"], ["a", "b", "a", "a"])
NO_ANSWER: dict[str, Any] = {"is_ambiguous": True, "answer": 2, "biased": 0, "unknown": 2}

CASES: list[tuple[type[LocalMetric], Any, Any, dict[str, float]]] = [
    (Accuracy, *LABELS, {"accuracy": 0.75}),
    (MacroF1, *LABELS, {"macro_f1": (0.8 + 2 / 3) / 2}),
    (PerClassRecall, *LABELS, {"a": 2 / 3, "b": 1.0}),
    (
        Calibration,
        [[0.75, 0.25], [0.5, 0.5]],
        [0, 1],
        {
            "ece": 0.375,
            "adaptive_ece": 0.375,
            "overconfidence": 0.125,
            "brier": (0.125 + 0.5) / 2,
            "nll": -math.log(0.75 * 0.5) / 2,
        },
    ),
    (
        SquadV2,
        ["the 30 days", "45 days"],
        [["30 days"], []],
        {
            "exact_match": 0.5,
            "f1": 0.5,
            "has_ans_exact_match": 1.0,
            "has_ans_f1": 1.0,
            "no_ans_exact_match": 0.0,
            "no_ans_f1": 0.0,
        },
    ),
    (Perplexity, [-2.0, -4.0], [1, 2], {"perplexity": math.exp(2)}),
    (RougeL, ["a b", "a b"], ["a b", "c d"], {"rouge_l": 0.5}),
    (Chrf, ["some words"], [["some words", "other"]], {"chrf": 1.0}),
    (
        Bbq,
        [0, 2, 0],
        [NO_ANSWER, NO_ANSWER, {**NO_ANSWER, "is_ambiguous": False, "answer": 0}],
        {
            "accuracy_ambiguous": 0.5,
            "accuracy_disambiguated": 1.0,
            "bias_ambiguous": 0.5,
            "bias_disambiguated": 1.0,
        },
    ),
    (
        Stereotype,
        [-1.0, -2.0],
        [-2.0, -5.0],
        {"stereotype_share": 1.0, "stereotype_preference": 1.0, "likelihood_gap": 2.0},
    ),
    (Counterfactual, *LABELS, {"flip_rate": 0.25}),
    (
        GroupGap,
        ["y", "n"] * 30,
        [{"label": "y" if i < 30 else "n", "group": str(i % 2)} for i in range(60)],
        {
            "demographic_parity_difference": 1.0,
            "demographic_parity_ratio": 0.0,
            "equalized_odds_difference": 1.0,
            "equal_opportunity_difference": 1.0,
        },
    ),
    (
        Selective,
        [0.9, 0.8],
        [True, False],
        {"aurc": 0.25, "excess_aurc": 0.0, "auroc": 1.0, "coverage_at_risk": 0.5},
    ),
    (
        TruthfulChoice,
        [[math.log(0.6), math.log(0.3), math.log(0.1)]],
        [[True, False, True]],
        {"mc1": 1.0, "mc2": 0.7},
    ),
    (
        LexicalSupport,
        ["45 days", "30 days"],
        ["after 30 days", "after 30 days"],
        {
            "unsupported_rate": 0.5,
            "unsupported_ngram_rate": 0.0,
            "unsupported_number_rate": 0.5,
            "unsupported_entity_rate": 0.0,
        },
    ),
    (
        Abstention,
        [True, False, True, True],
        [True, True, False, False],
        {"over_refusal_rate": 0.5, "answered_unanswerable_rate": 1.0, "abstention_error": 0.75},
    ),
    (
        ContextGain,
        [
            {"with_context": -2.0, "without_context": -8.0},
            {"with_context": -3.0, "without_context": -2.0},
        ],
        [3, 1],
        {"context_gain": 0.5},
    ),
    (
        SelfConsistency,
        [["30 days", "30 days"], ["x", "y"]],
        None,
        {"agreement": 0.5, "semantic_entropy": math.log(2) / 2},
    ),
    (
        StereoSet,
        [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 3.0, 1.0]],
        ["a", "a", "b"],
        {"language_modeling": 0.75, "stereotype": 0.25, "icat": 0.375},
    ),
    (
        NoAnswer,
        [
            {"score": 1.0, "na_probability": 0.2},
            {"score": 0.0, "na_probability": 0.9},
            {"score": 0.5, "na_probability": 0.4},
        ],
        [True, False, True],
        {"best": 2.5 / 3, "best_threshold": 0.4},
    ),
]


def test_every_metric_class_is_tried_here() -> None:
    modules = [
        import_module(f"eval.metrics.{module.name}")
        for module in pkgutil.iter_modules(metrics.__path__)
    ]
    classes = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, LocalMetric) and value is not LocalMetric
    }
    assert classes == {case[0] for case in CASES}


@pytest.mark.parametrize(("metric", "predictions", "references", "wanted"), CASES)
def test_compute(
    metric: type[LocalMetric],
    predictions: Any,
    references: Any,
    wanted: dict[str, float],
    tmp_path: Path,
) -> None:
    found = metric(cache_dir=str(tmp_path)).compute(predictions=predictions, references=references)
    assert found == pytest.approx(wanted)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # customer text stays here


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_empty_input_is_refused(case: tuple[type[LocalMetric], Any, Any, Any]) -> None:
    references = None if case[2] is None else []
    with pytest.raises(EvaluationError, match="at least one"):
        case[0]().compute(predictions=[], references=references)


def test_metrics_combine() -> None:
    both = evaluate.combine([Accuracy(), MacroF1()])
    found = both.compute(predictions=LABELS[0], references=LABELS[1])
    assert found == {"accuracy": 0.75, "macro_f1": pytest.approx(0.73333, abs=1e-5)}


def test_the_description_is_the_docstring() -> None:
    assert SquadV2().description.startswith("SQuAD 2.0 exact match")
    assert "1806.03822" in SquadV2().citation


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(EvaluationError, match="got 2 predictions, 1 references"):
        check_columns("accuracy", predictions=[1, 2], references=[1])


@pytest.mark.slow
def test_metrics_work_in_a_process_without_a_network(tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from eval.metrics.accuracy import Accuracy\n"
        "assert Accuracy().compute(predictions=['a'], references=['a']) == {'accuracy': 1.0}\n"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
