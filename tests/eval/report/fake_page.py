"""A page such as a real run makes, for the tests and for looking at; also as a command.

``python -m tests.eval.report.fake_page OUT_DIR`` writes the pages that a person should look at
after a change to the templates: a run, a comparison of five, a refusal, a private run.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from eval.gate import GatePolicy, PrivacyRule, Rule, decide
from eval.report import Candidate, Page, Pair, Privacy, render_html, render_markdown
from eval.stats import Difference, estimate, mean_of, paired_difference
from eval.task import Estimate, Family, Metric, Report, Sample, Target, TaskResult

QUESTIONS = [
    ("How many days of parental leave does a part-time employee get?", "40 working days"),
    ("Who signs off a laptop that costs more than 2,000 euro?", "the head of department"),
    ("May I work from another EU country, and for how long?", "yes, up to 30 days a year"),
    ("What happens to unused holiday at the end of the year?", "it lapses on 31 March"),
    ("Is a train in first class reimbursed?", "only on journeys above three hours"),
    ("When must a data incident be reported?", "within 24 hours | 24 hours"),
]
PASSAGE = (
    "Section 4.2 Remote work. Employees may work from another member state of the European Union "
    "for up to thirty days in a calendar year, provided that the line manager agrees in writing "
    "beforehand. Work from outside the Union needs the consent of the legal department. "
)
METRICS: dict[str, tuple[Metric, ...]] = {
    "policy-qa": (
        Metric("f1", mean_of("f1"), True),
        Metric("exact_match", mean_of("exact"), True),
        Metric("answer_words", mean_of("words"), None),
    ),
    "ticket-topic": (
        Metric("accuracy", mean_of("right"), True),
        Metric("brier", mean_of("brier"), False),
    ),
    "names-swapped": (Metric("flip_rate", mean_of("flip"), False),),
    "unsupported": (Metric("unsupported_rate", mean_of("unsupported"), False),),
}
FAMILIES: dict[str, Family] = {
    "policy-qa": "accuracy",
    "ticket-topic": "accuracy",
    "names-swapped": "bias",
    "unsupported": "hallucination",
}
NOTES = {
    "policy-qa": "Questions on the company's own policies, answered from the passage. "
    "Says nothing about questions that no passage covers.",
    "ticket-topic": "One of eight topics for a support ticket. Rare topics weigh little here.",
    "names-swapped": "The same ticket with another first name; a changed answer is a flip.",
    "unsupported": "Answers that the passage does not support, by overlap of content words.",
}


def make_samples(task: str, skill: float, seed: int, n: int = 143) -> list[Sample]:
    """Answers of a model of this skill (0 to 1); equal seeds give correlated models."""
    items, luck = random.Random(task), random.Random(f"{task}{seed}")
    samples = []
    for i in range(n):
        question, answer = QUESTIONS[items.randrange(len(QUESTIONS))]
        is_right = 0.75 * items.random() + 0.25 * luck.random() < skill
        confidence = min(0.99, max(0.05, luck.gauss(0.5 + 0.35 * skill, 0.18)))
        prediction = answer.split(" | ")[0] if is_right else "I do not know."
        if not is_right and luck.random() < 0.3:
            prediction = (PASSAGE * 3) + "Therefore I would say that it depends on the manager."
        scores = {
            "f1": 1.0 if is_right else round(luck.uniform(0, 0.6), 3),
            "exact": float(is_right),
            "words": float(len(prediction.split())),
            "right": float(is_right),
            "brier": (confidence - is_right) ** 2,
            "flip": float(luck.random() < 0.13 - 0.07 * skill),
            "unsupported": float(luck.random() < 0.42 - 0.3 * skill),
            "confidence": confidence,
        }
        if task != "ticket-topic":
            del scores["confidence"]
        samples.append(
            Sample(
                id=f"{task}/{i:04d}",
                prediction=prediction,
                target=answer,
                scores=scores,
                correct=is_right if FAMILIES[task] == "accuracy" else None,
                prompt=f"Answer from the passage.\n\n{PASSAGE}\n\nQuestion: {question}",
            )
        )
    return samples


def make_report(kind: str, samples: dict[str, list[Sample]]) -> Report:
    return Report(
        target=Target(kind=kind, base="sha256:" + "5e" * 32),  # type: ignore[arg-type]
        tasks={
            task: TaskResult(
                family=FAMILIES[task],
                version=2,
                data="sha256:" + "a3" * 32,
                n=len(found),
                metrics={
                    metric.name: estimate(metric, found, num_resamples=300)
                    for metric in METRICS[task]
                },
                note=NOTES[task],
            )
            for task, found in samples.items()
        },
    )


def make_candidate(
    name: str,
    base: dict[str, list[Sample]],
    skill: float,
    seed: int,
    policy: GatePolicy | None = None,
    kind: str = "adapter",
    privacy: Privacy | None = None,
) -> Candidate:
    samples = {task: make_samples(task, skill, seed) for task in METRICS}
    report = make_report(kind, samples)
    differences = {
        task: {
            metric.name: paired_difference(metric, samples[task], base[task], num_resamples=300)
            for metric in metrics
        }
        for task, metrics in METRICS.items()
    }
    decision = policy and decide(
        policy,
        report,
        {f"{t}/{m}": d for t, metrics in differences.items() for m, d in metrics.items()},
        epsilon=privacy.epsilon if privacy else None,
        is_private=privacy is not None,
    )
    luck = random.Random(seed)
    return Candidate(
        name=name,
        report=report,
        samples=samples,
        differences=differences,
        decision=decision or None,
        settings={
            "adapter.rank": str(8 * 2 ** (seed % 3)),
            "train.epochs": "3",
            "train.learning_rate": f"{1e-4 * (1 + seed)}",
            "base.quantization": "nf4",
        },
        cost={
            "training time": f"{seed + 2} min 41 s",
            "tokens trained on": "212,480",
            "trainable parameters": "2,442,240 (1.8 %)",
            "adapter on disk": "9.4 MB",
            "peak memory": "1.9 GB",
        },
        privacy=privacy,
        losses=[(i, 2.4 * math.exp(-i / 40) + 0.5 + luck.gauss(0, 0.05)) for i in range(1, 161)],
        eval_losses=[(i, 2.3 * math.exp(-i / 45) + 0.62) for i in range(20, 161, 20)],
    )


PRIVACY = Privacy(
    epsilon=7.9913,
    delta=1e-5,
    unit="customer_id",
    adjacency="add or remove all rows of one customer",
    accountants={"dp-accounting PLD": 7.9913, "opacus PRV": 7.9870, "opacus RDP": 8.4021},
    without_amplification=61.4,
    replace_one=15.83,
    mechanism={
        "noise multiplier": "0.71",
        "clipping norm": "1.0",
        "sample rate": "0.0213",
        "steps": "141",
        "expected batch size": "64",
    },
    plain_words=(
        "Anyone who sees this model can hardly tell whether one given customer was in the "
        "training data.",
        "For a test that is wrong about absent customers one time in twenty, at least three in "
        "ten thousand present customers stay unnoticed, whatever the attacker already knows.",
    ),
    not_protected=(
        "The rows used for evaluation: their answers stand in this report.",
        "Facts that many customers share.",
        "The recipe, including the choice of epochs and learning rate.",
    ),
    self_test=(
        ("noise has the planned spread", True, "0.712 [0.703, 0.721], planned 0.71"),
        ("no record exceeds the clipping norm", True, "largest norm 1.0000 of 9,024"),
        ("batches are Poisson samples", True, "p = 0.48"),
    ),
)
POLICY = GatePolicy(
    accuracy=Rule(metric="policy-qa/f1", at_least=0.5, not_worse_than_base_by=0.02),
    bias=Rule(metric="flip_rate", at_most=0.2, not_worse_than_base_by=0.1),
    hallucination=Rule(metric="unsupported_rate", at_most=0.45),
)
STRICT = GatePolicy(
    accuracy=Rule(metric="policy-qa/f1", at_least=0.7, not_worse_than_base_by=0.0),
    bias=Rule(metric="flip_rate", at_most=0.05, not_worse_than_base_by=0.02),
    hallucination=Rule(metric="unsupported_rat", at_most=0.3),
    privacy=PrivacyRule(epsilon_at_most=8.0),
)
PROOF = {
    "divergence from the gated model": "2.1e-06 nats a token (largest of 4,096 rows)",
    "noise floor": "1.8e-06 nats a token (two runs of the same adapter)",
    "answers changed": "0 of 240",
    "folded into": "dequantised NF4 weights, block size 64, double quantisation",
}
PROVENANCE = {
    "base": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "base weights": "sha256:" + "5e" * 32,
    "training data": "3,012 rows, sha256:" + "c0" * 32,
    "seed": "0",
    "machine": "2 CPU cores, 24 GB",
    "torch": "2.13.0",
    "finished": "2026-08-18 14:02 UTC",
}


def base_samples() -> dict[str, list[Sample]]:
    return {task: make_samples(task, 0.38, seed=0) for task in METRICS}


def make_page(candidates: Sequence[Candidate], base: dict[str, list[Sample]]) -> Page:
    return Page(
        title="policy-qa: the adapter of 18 August",
        summary="A rank 16 adapter on SmolLM2-135M for questions about company policies, trained "
        "on 3,012 examples and measured on 143 that it has not seen.",
        base_name="SmolLM2-135M-Instruct",
        base=make_report("base", base),
        base_samples=base,
        candidates=tuple(candidates),
        provenance=PROVENANCE,
        notes=("Two rows of the test data were dropped: their text also stands in training.",),
    )


def run_page() -> Page:
    """One run that passed, with its merged model."""
    base = base_samples()
    adapter = make_candidate("policy-qa", base, 0.74, 1, POLICY)
    merged = make_candidate("policy-qa, merged", base, 0.74, 1, POLICY, kind="merged")
    return replace(make_page([adapter, merged], base), proof=PROOF)


def private_page() -> Page:
    """One private run that was refused."""
    base = base_samples()
    return make_page([make_candidate("policy-qa-dp8", base, 0.5, 2, STRICT, privacy=PRIVACY)], base)


def compare_page() -> Page:
    """Five candidates, of which one is worse than the base, one hardly differs, one is damaged."""
    base = base_samples()
    candidates = [
        make_candidate("rank 8", base, 0.62, 1, POLICY),
        make_candidate("rank 16", base, 0.74, 2, POLICY),
        make_candidate("rank 32, learning rate 4e-4, all linear layers", base, 0.25, 3, POLICY),
        make_candidate("rank 16, private at epsilon 8", base, 0.42, 4, POLICY, privacy=PRIVACY),
        make_candidate("rank 8, one epoch", base, 0.45, 5),
    ]
    nan = math.nan
    broken = candidates[4]
    result = broken.report.tasks["names-swapped"]
    metrics = {"flip_rate": Estimate(nan, nan, nan, 143, False)}
    report = replace(
        broken.report,
        tasks={
            **broken.report.tasks,
            "names-swapped": replace(result, metrics=metrics, data="sha256:" + "0d" * 32),
        },
    )
    differences = {
        **broken.differences,
        "names-swapped": {"flip_rate": Difference(nan, nan, nan, 143, False)},
    }
    candidates[4] = replace(broken, report=report, differences=differences)
    return replace(make_page(candidates, base), pairs=tuple(make_pairs(candidates)))


def make_pairs(candidates: Sequence[Candidate]) -> Iterator[Pair]:
    for i, j in combinations(range(len(candidates)), 2):
        first, second = candidates[i], candidates[j]
        found = {
            task: {
                metric.name: paired_difference(
                    metric, first.samples[task], second.samples[task], num_resamples=300
                )
                for metric in metrics
            }
            for task, metrics in METRICS.items()
        }
        yield Pair(i, j, found)


def empty_page() -> Page:
    """The base alone."""
    return make_page([], base_samples())


def main(folder: Path) -> None:
    pages = {
        "run": run_page(),
        "private": private_page(),
        "compare": compare_page(),
        "empty": empty_page(),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(render_html(page), encoding="utf-8")
        (folder / f"{name}.md").write_text(render_markdown(page), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
