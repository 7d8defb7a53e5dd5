"""The format of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.items import passage_name
from recipes.data.catalog import UNUSABLE_ROW
from recipes.data.findings import Findings
from recipes.data.readers.json_lines import checked_row
from recipes.data.rows import Row


def article_rows(path: Path, index: int, article: Any, findings: Findings) -> Iterator[Row]:
    """Yield one row per question of an article.

    Its ``document`` is the passage, which is what questions of one kind depend on; ``article`` is
    there to be a `data.group`.
    """
    title = article.get("title", f"article {index}") if isinstance(article, dict) else ""
    for p, paragraph in enumerate(_listed(article, "paragraphs", f"{path}[{index}]", findings)):
        where = f"{path}[{index}].paragraphs[{p}]"
        for q, question in enumerate(_listed(paragraph, "qas", where, findings)):
            place = f"{where}.qas[{q}]"
            try:
                row = _question_row(place, title, p, paragraph, question, findings)
            except KeyError as error:
                why = f"not in the SQuAD format: {error} is missing"
                findings.add(UNUSABLE_ROW, place, why)
            except (TypeError, AttributeError):
                findings.add(UNUSABLE_ROW, place, "not in the SQuAD format: wanted other types")
            else:
                if row is not None:
                    yield row


def _listed(holder: Any, key: str, place: str, findings: Findings) -> list[Any]:
    """Return the list under a key; what is not there becomes a finding, and an empty list."""
    if not isinstance(holder, dict):
        findings.add(UNUSABLE_ROW, place, "not in the SQuAD format: wanted other types")
        return []
    if key not in holder:
        findings.add(UNUSABLE_ROW, place, f"not in the SQuAD format: {key!r} is missing")
        return []
    if not isinstance(holder[key], list):
        findings.add(UNUSABLE_ROW, place, "not in the SQuAD format: wanted other types")
        return []
    found: list[Any] = holder[key]
    return found


def _question_row(
    place: str, title: Any, number: int, paragraph: Any, question: Any, findings: Findings
) -> Row | None:
    is_impossible = question.get("is_impossible", False)
    if not isinstance(is_impossible, bool):
        findings.add(UNUSABLE_ROW, place, "is_impossible: wanted true or false")
        return None
    given = question.get("answers", []) if is_impossible else question["answers"]
    answers = [] if is_impossible else given
    values = {
        "id": question["id"],
        "document": passage_name(title, number),
        "article": title,
        "context": paragraph["context"],
        "question": question["question"],
        "answers": list(dict.fromkeys(answer["text"] for answer in answers)),
    }
    row = checked_row(place, values, findings)
    return row and replace(row, annotations=_annotations(given, is_impossible))


def _annotations(given: list[Any], is_impossible: bool) -> dict[str, Any]:
    """Return the answers with their places. Whether they hold is for the domain to judge."""
    return {
        "answers": [(str(answer["text"]), answer.get("answer_start")) for answer in given],
        "is_impossible": is_impossible,
    }
