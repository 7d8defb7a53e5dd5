"""What `assay check` prints: places joined where they say the same, words whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes.check.places import in_few_lines
from recipes.data.findings import Occurrence
from tests.cli import assay_here, write_recipe
from tests.recipes.rows import write_jsonl


def test_lines_of_one_file_with_equal_details_are_joined_in_the_order_of_the_file() -> None:
    wide = [Occurrence(f"/a/t.csv:{n}", "more fields than the header's 6") for n in range(12, 320)]
    other = Occurrence("/a/t.csv:14", "fewer fields than the header's 6")

    lines = in_few_lines([*wide[:2], other, *wide[2:]])

    assert lines == [
        "/a/t.csv, lines 12, 13, 14, 15, 16, 17, 18, 19 and 300 more: "
        "more fields than the header's 6",
        "/a/t.csv:14: fewer fields than the header's 6",
    ]


def test_places_of_different_files_or_kinds_are_not_joined() -> None:
    found = [Occurrence(place, "odd") for place in ("a.csv:1", "b.csv:1", "a.csv", "a.csv[1]")]

    assert in_few_lines(found) == [str(one) for one in found]


def test_rows_of_a_sheet_and_of_json_are_named_as_such() -> None:
    found = [Occurrence(place) for place in ("a.xlsx:3", "a.xlsx:7", "b.json[0]", "b.json[4]")]

    assert in_few_lines(found, {"a.xlsx"}) == [
        "a.xlsx, rows 3, 7",
        "b.json, places [0], [4]",
    ]


def write_case(folder: Path) -> None:
    rows = [f"The number {n} is in the garden,{('complaint', 'refund')[n % 2]}" for n in range(40)]
    rows += [f"{n},refund,too many" for n in range(30)]
    rows += ["Write to ann.miller@example.com,COMPLAINT", "n/a,refund", rows[0]]
    (folder / "tickets.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = {
        "name": "shown",
        "recipe": "classification",
        "base": {"checkpoint": "./no-base"},
        "data": {"train": "tickets.csv"},
        "gate": {},
    }
    (folder / "r.yaml").write_text(json.dumps(recipe))


@pytest.mark.parametrize("width", [80, 50])
def test_words_stay_whole_and_lines_within_the_width(
    tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    wide = assay_here("check", "r.yaml", folder=tmp_path).out
    monkeypatch.setenv("COLUMNS", str(width))

    shown = assay_here("check", "r.yaml", folder=tmp_path).out

    short = {word for word in wide.split() if len(word) <= width - 6 and not set(word) <= {"#"}}
    assert short <= set(shown.split())
    pasted = [line for line in wide.splitlines() if line.startswith("  label_map")]
    assert pasted
    long = {line for line in shown.splitlines() if len(line) > width} - set(pasted)
    assert all(" " not in line.strip() for line in long)  # a path, which is to be copied whole


def test_equal_places_take_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_case(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    shown = assay_here("check", "r.yaml", folder=tmp_path).out

    lines = [line.strip() for line in shown.splitlines() if "more fields than" in line]
    assert lines == [
        "tickets.csv, lines 42, 43, 44, 45, 46, 47, 48, 49 and 22 more: "
        "more fields than the header's 2"
    ]


def test_what_is_printed_to_be_pasted_is_what_training_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"The number {n} is in the garden,{('complaint', 'refund')[n % 2]}" for n in range(30)]
    rows += ["Write to ann.miller@example.com,COMPLAINT", "All is lost again,Re\u200bfund"]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = "name: pasted\nrecipe: classification\nbase: {checkpoint: ./no-base}\ndata:\n"
    recipe += "  train: tickets.csv\n"
    (tmp_path / "r.yaml").write_text(recipe)
    monkeypatch.setenv("COLUMNS", "80")

    shown = assay_here("check", "r.yaml", folder=tmp_path).out

    pasted, is_pasted = [], False
    for line in map(str.rstrip, shown.splitlines()):
        is_pasted = line.startswith("  ") and (is_pasted or line == PASTE)
        if is_pasted and line != PASTE:
            pasted.append(line)
    assert pasted[:2] == ["  personal_data:", "    email: redact"]
    (tmp_path / "r.yaml").write_text(recipe + "\n".join(pasted) + "\n")
    done = assay_here("check", "r.yaml", "--json", folder=tmp_path)
    errors = [one["code"] for one in done.json()["findings"] if one["severity"] == "error"]
    assert errors == ["base-unavailable"]
    verdict = " ".join(shown[shown.index("3 errors") :].split())
    assert verdict.startswith(
        "3 errors and 1 warning: the data is NOT fit to train on. For personal-data and "
        "label-spellings, paste what is printed there under `data:` of the recipe. Correct the "
        "others."
    )
    assert "warning}" not in verdict  # not for what has a setting, nor for what is always an error


PASTE = "  To paste under `data:` of the recipe:"


def test_keys_that_the_recipe_has_are_pasted_in_their_place_with_what_they_held(
    tmp_path: Path,
) -> None:
    rows = [f"Write to ann{n}@example.com or +49 170 1234567,{'xy'[n % 2]}" for n in range(30)]
    (tmp_path / "tickets.csv").write_text("\n".join(["body,label", *rows]) + "\n")
    recipe = "name: long\nrecipe: classification\nbase: {checkpoint: ./no-base}\ndata:\n"
    recipe += "  train: tickets.csv\n  columns: {label: label, text: bodi}\n"
    (tmp_path / "r.yaml").write_text(f"{recipe}  personal_data: {{email: keep}}\n")

    done = assay_here("check", "r.yaml", folder=tmp_path)

    words = " ".join(done.out.split())
    start = "To paste under `data:` of the recipe, in place of its"
    assert f'{start} columns: columns: label: "label" text: "body" ' in words
    assert f"{start} personal_data: personal_data: email: keep phone: redact " in words


def test_a_label_takes_one_line_and_its_end_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "complaint about a parcel that was damaged on its way"
    labels = (f"{long} here", f"{long} back", "two\nlines")
    rows = [f'The number {n} is in the garden,"{labels[n % 3]}"' for n in range(30)]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = "name: long\nrecipe: classification\nbase: {checkpoint: ./no-base}\ndata:\n"
    (tmp_path / "r.yaml").write_text(f"{recipe}  train: tickets.csv\n")
    monkeypatch.setenv("COLUMNS", "80")

    shown = assay_here("check", "r.yaml", folder=tmp_path).out.splitlines()

    start = next(i for i, line in enumerate(shown) if line.startswith("label "))
    table = shown[start + 1 : start + 5]
    assert [line.split("  ")[0] for line in table[:3]] == [
        "complaint about a...s way back",
        "complaint about a...s way here",
        '"two\\u000alines"',
    ]
    assert all(line.rstrip().endswith("#") for line in table[:3])
    assert not table[3].strip()


def test_an_example_marks_text_that_reads_like_a_control_token(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"messages": [{"role": "user", "content": f"What is <|im_end|> number {n}?"},
                          {"role": "assistant", "content": "An end: <|im_end|>"}]}
            for n in range(9)]  # fmt: skip
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_recipe(tmp_path, "chat", tiny_base)
    monkeypatch.setenv("COLUMNS", "200")

    done = assay_here("check", "recipe.yaml", "--show", "1", folder=tmp_path)

    assert "learned text is marked [[ ]], text of the row that reads like a mark of" in done.out
    assert "What is {{<|im_end|>}} number" in done.out
    assert "[[An end: {{<|im_end|>}}<|im_end|>]]" in done.out
    [shown] = assay_here("check", "recipe.yaml", "--show", "1", "--json", folder=tmp_path).json()[
        "shown"
    ]
    assert [len(spans) for spans in shown["control_texts"]] == [1, 1]


def test_the_verdict_says_what_a_warning_does_to_each_error(tmp_path: Path) -> None:
    rows = [f"The number {n} is in the garden,{('complaint', 'refund')[n % 2]}" for n in range(30)]
    rows += ["No label here,", "too many,refund,fields", f"{rows[0].split(',')[0]},refund"]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = "name: long\nrecipe: classification\nbase: {checkpoint: ./no-base}\ndata:\n"
    (tmp_path / "r.yaml").write_text(f"{recipe}  train: tickets.csv\n")

    done = assay_here("check", "r.yaml", folder=tmp_path)

    assert (
        "NOT fit to train on. Correct the errors. Or set data.findings: {unusable-row: warning, "
        "empty-label: warning, conflicting-labels: warning}; then rows of unusable-row and "
        "empty-label are left out, and conflicting-labels may stay. Every data.KEY is KEY under"
    ) in " ".join(done.out.split())
