"""A comparison as JSON values: what the page shows, for a program."""

from __future__ import annotations

import math
from typing import Any

from eval.report.judgements import judge
from eval.report.page import Page
from eval.report.standings import standings

SCHEMA = 1


def to_json(page: Page) -> dict[str, Any]:
    """Return the reports, every paired difference with its judgement, and where each model stands.

    A figure that is undefined is null. The base is named as the page names it.
    """
    names: dict[int | None, str] = {i: c.name for i, c in enumerate(page.candidates)}
    names[None] = page.base_name
    judged = judge(page)
    return {
        "schema": SCHEMA,
        "base": page.base_name,
        "reports": {page.base_name: page.base.to_json()}
        | {candidate.name: candidate.report.to_json() for candidate in page.candidates},
        "standings": [
            {
                "name": one.name,
                "better": sum(score.better for score in one.families.values()),
                "worse": sum(score.worse for score in one.families.values()),
                "compared": sum(score.total for score in one.families.values()),
                "beats": [names[o] for o, score in one.others.items() if score.beats],
                "beaten_by": [names[other] for other in one.beaten_by],
                "passed": _passed(page, one.index),
            }
            for one in standings(page, judged)
        ],
        "pairs": [
            {
                "first": names[first],
                "second": names[second],
                "task": task,
                "metric": metric,
                "judgement": one.judgement,
                "value": _finite(one.difference.value),
                "low": _finite(one.difference.low),
                "high": _finite(one.difference.high),
                "n": one.difference.n,
                "higher_is_better": one.difference.higher_is_better,
                "p_value": _finite(one.difference.p_value),
                "p_adjusted": _finite(one.p_adjusted),
                "smallest_detectable_difference": _finite(one.detectable),
            }
            for (first, second, task, metric), one in judged.items()
        ],
        "notes": list(page.notes),
    }


def _passed(page: Page, index: int | None) -> bool | None:
    decision = None if index is None else page.candidates[index].decision
    return None if decision is None else decision.passed


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
