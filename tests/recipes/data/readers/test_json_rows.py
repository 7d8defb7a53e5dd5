"""JSON gives rows in whatever arrangement it comes, one at a time."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from recipes.data.findings import Findings
from recipes.data.readers import read_rows
from recipes.data.readers.json_lines import NO_TEXT
from recipes.data.readers.json_text import EXCESSIVE
from recipes.errors import InputError
from tests.recipes.data.readers.reading import JSONL, A, B, read, read_as, values
from tests.recipes.rows import settings_of, write_bytes

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def write(path: Path, document: Any, **options: Any) -> Path:
    return write_bytes(path, json.dumps(document, **options).encode())


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson", "a.txt", "a.json.gz"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_whatever_the_suffix(
    tmp_path: Path, name: str, indent: int | None
) -> None:
    path = write(tmp_path / name, [A, 5, B, None], indent=indent)
    assert read(path) == (
        [(f"{name}[0]", A), (f"{name}[2]", B)],
        [
            f"{name}[1]: wanted a JSON object, found a int",
            f"{name}[3]: wanted a JSON object, found null",
        ],
    )
    assert read_as(path).layout == "a JSON array"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson", "a.txt", "a.jsonl.gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_objects_a_line_are_read_whatever_the_suffix(tmp_path: Path, name: str, mark: str) -> None:
    path = write_bytes(tmp_path / name, (mark + JSONL + "\n[1]\n").encode())
    found, bad = read(path)
    assert found == [(f"{name}:1", A), (f"{name}:2", B)]
    assert bad == [f"{name}:4: wanted a JSON object, found a list"]
    assert read_as(path).layout == "one object per line"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt"])
def test_objects_one_after_another_are_read(tmp_path: Path, name: str) -> None:
    pretty = "\n".join(json.dumps(row, indent=1) for row in (A, B))
    found, bad = read(write_bytes(tmp_path / name, pretty.encode()))
    assert found == [(f"{name}:1", A), (f"{name}:5", B)]
    assert not bad
    assert values(write_bytes(tmp_path / name, (json.dumps(A) + json.dumps(B)).encode())) == [A, B]


def test_a_line_that_is_no_json_object_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json"):
        path = tmp_path / name
        path.write_text(f'{{"text": "one",\n[1, 2]\n"word"\n{json.dumps(B)}\n')
        found, bad = read(path)
        assert found == [(f"{name}:4", B)]
        assert [line.partition(" ")[0] for line in bad] == [f"{name}:{i}:" for i in (1, 2, 3)]
        assert "not valid JSON at column" in bad[0]
        assert "found a list" in bad[1]


def test_a_last_line_that_was_cut_is_named(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a.jsonl", (JSONL + '{"text": "thr').encode())
    found, [bad] = read(path)
    assert [row for _, row in found] == [A, B]
    assert bad.startswith("a.jsonl:3: not valid JSON")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("meta_first", [True, False])
def test_rows_under_the_only_list_of_objects_are_found(
    tmp_path: Path, indent: int | None, meta_first: bool
) -> None:
    meta = {"version": 2, "tags": ["a"], "by": {"name": "x"}}
    document = {**meta, "items": [A, 5, B]} if meta_first else {"items": [A, 5, B], **meta}
    path = write(tmp_path / "a.json", document, indent=indent)
    found, bad = read(path)
    assert found == [("a.json[0]", A), ("a.json[2]", B)]
    assert bad == ["a.json[1]: wanted a JSON object, found a int"]
    assert read_as(path).describe() == "read as UTF-8, rows under 'items'"


def test_of_several_lists_of_objects_the_recipe_chooses(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"old": [A], "new": [B], "n": 1})
    with pytest.raises(InputError, match=r"may be under 'old', 'new'; .*data\.rows_key: NAME"):
        read(path)
    assert values(path, rows_key="new") == [B]
    with pytest.raises(InputError, match=r"'nwe' is not in it; did you mean new\?"):
        read(path, rows_key="nwe")
    with pytest.raises(InputError, match=r"'n' is no list of objects"):
        read(path, rows_key="n")


def test_the_turns_of_one_chat_are_no_rows(tmp_path: Path) -> None:
    assert values(write(tmp_path / "a.json", CHAT)) == [CHAT]
    assert values(write(tmp_path / "a.json", CHAT, indent=1)) == [CHAT]
    assert values(write(tmp_path / "a.jsonl", CHAT)) == [CHAT]


def test_objects_by_their_id_are_rows_of_that_id(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"q17": A, "q18": B | {"id": "own"}})
    assert values(path) == [{"id": "q17", **A}, {**B, "id": "own"}]
    path = write(tmp_path / "a.json", {"17": A, "18": B | {"id": "own"}})
    assert values(path) == [{"id": "17", **A}, {**B, "id": "own"}]
    twice = f'{{"1": {json.dumps(A)}, "1": {json.dumps(B)}}}'
    found, bad = read(write_bytes(tmp_path / "a.json", twice.encode()))
    assert [row for _, row in found] == [{"id": "1", **A}]
    assert bad == ["a.json[1]: the key '1' appears twice in one object"]


@pytest.mark.parametrize("orient", ["records", "split", "index", "columns", "table"])
@pytest.mark.parametrize("index", [[0, 1], ["q1", "q2"]])
def test_what_pandas_writes_is_read(tmp_path: Path, orient: Any, index: list[Any]) -> None:
    import pandas

    frame = pandas.DataFrame([A, B], index=index)
    frame.to_json(tmp_path / "a.json", orient=orient)
    found = values(tmp_path / "a.json")
    assert [{key: row[key] for key in A} for row in found] == [A, B]
    extra = {"index": {"id"}, "table": {"index"}}.get(orient, set())
    assert {*found[0]} - {*A} == extra


def test_rows_without_column_names_are_refused(tmp_path: Path) -> None:
    import pandas

    pandas.DataFrame([A, B]).to_json(tmp_path / "a.json", orient="values")
    with pytest.raises(InputError, match=r"without column names .*orient='records'"):
        read(tmp_path / "a.json")


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    texts = [r'{"text": "cut \ud83d"}', r'{"a": [{"b": "\udc00"}]}', r'{"text": "\ud83d\ude00"}']
    lines = "\n".join(texts)
    found, bad = read(write_bytes(tmp_path / "a.jsonl", lines.encode()))
    assert found == [("a.jsonl:3", {"text": "\U0001f600"})]
    assert [problem.partition(": ")[2] for problem in bad] == [NO_TEXT] * 2
    array = f"[{','.join(texts)}]".encode()
    found, bad = read(write_bytes(tmp_path / "a.json", array))
    assert (len(found), len(bad)) == (1, 2)


SQUAD_V1 = {"id": "q1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}] * 2}
SQUAD_V2 = {"id": "q2", "question": "When?", "is_impossible": True, "answers": []}
SQUAD_NO_START = {"id": "q3", "question": "Who?", "answers": [{"text": "Ann"}, {"text": "Ann"}]}


def squad(*questions: Any) -> dict[str, Any]:
    return {"data": [{"title": "T", "paragraphs": [{"context": "Ann did.", "qas": questions}]}]}


@pytest.mark.parametrize("name", ["squad.json", "squad.json.gz"])
def test_squad_files_of_both_versions_give_a_row_a_question(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, squad(SQUAD_V1, SQUAD_V2, SQUAD_NO_START))
    found, bad = read(path)
    shared = {"document": "T, paragraph 1", "article": "T", "context": "Ann did."}
    assert [row for _, row in found] == [
        {"id": "q1", "question": "Who?", "answers": ["Ann"]} | shared,
        {"id": "q2", "question": "When?", "answers": []} | shared,
        {"id": "q3", "question": "Who?", "answers": ["Ann"]} | shared,
    ]
    assert found[1][0] == f"{name}[0].paragraphs[0].qas[1]"
    assert not bad
    assert read_as(path).layout == "the SQuAD format"
    first, second, third = (row.annotations for row in read_rows(path, settings_of(), Findings()))
    assert first == {"answers": [("Ann", 0), ("Ann", 0)], "is_impossible": False}
    assert second == {"answers": [], "is_impossible": True}
    assert third == {"answers": [("Ann", None), ("Ann", None)], "is_impossible": False}


@pytest.mark.parametrize(
    "document", [squad({"id": "q", "question": "Who?"}), squad("a text"), squad(None)]
)
def test_what_is_not_quite_squad_is_named(tmp_path: Path, document: Any) -> None:
    found, [problem] = read(write(tmp_path / "a.json", document))
    assert not found
    assert problem.startswith("a.json[0].paragraphs[0].qas[0]: not in the SQuAD format")


def test_a_question_that_cannot_be_read_takes_no_other_with_it(tmp_path: Path) -> None:
    document = squad(SQUAD_V1, {"id": "q", "question": "Who?"}, None, SQUAD_V2)
    document["data"] += [{"title": "U"}, {"paragraphs": ["a text"]}, "a text"]
    found, problems = read(write(tmp_path / "a.json", document))
    assert [row["id"] for _, row in found] == ["q1", "q2"]
    places = [problem.partition(": ")[0] for problem in problems]
    first = "a.json[0].paragraphs[0].qas"
    assert places == [
        f"{first}[1]",
        f"{first}[2]",
        "a.json[1]",
        "a.json[2].paragraphs[0]",
        "a.json[3]",
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", r"a\.json:1: not valid JSON"),
        ("a.json", '[\n{"a": 1},\n{"a" 2}]', r"a\.json:3: not valid JSON: Expecting ':'"),
        ("a.json", '[{"a": 1}] []', r"a\.json:1: .*text follows the end of the array"),
        ("a.json", '[{"a": 1}', r"a\.json:1: .*wanted ',' or '\]', found the end"),
        ("a.json", '{"data": ["a text"]}', r"found an object with the keys 'data'"),
        ("a.json", '{"text": "one", "label": "x"}', "wanted a JSON array of objects"),
        ("a.json", '"word"', r"a\.json:1: .*wanted an object or an array of objects"),
        ("a.json", "{}", "the keys none"),
        ("a.json", "[" * 100_000, "without column names"),
        ("a.json", '[{"a": ' + "[" * 100_000, "nested too deep"),
    ],
)
def test_json_without_rows_is_refused(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(write_bytes(tmp_path / name, content.encode()))


def test_what_json_allows_and_nobody_means_is_a_bad_row(tmp_path: Path) -> None:
    twice, digits, inner = (
        '{"a": 1, "a": 2}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": {"b": 1, "b": 1}}',
    )
    path = tmp_path / "a.jsonl"
    path.write_text(f"{twice}\n{digits}\n{'[' * 100_000}\n{inner}\n")
    found, bad = read(path)
    assert not found
    refused = ["the key 'a' appears twice in one object", EXCESSIVE]
    last = "the key 'b' appears twice in one object"
    assert [one.partition(": ")[2] for one in bad] == [*refused, EXCESSIVE, last]
    (tmp_path / "b.json").write_text(f'[{twice}, {digits}, {inner}, {{"a": 1}}]')
    found, bad = read(tmp_path / "b.json")
    assert found == [("b.json[3]", {"a": 1})]
    assert [one.partition(": ")[2] for one in bad] == [*refused, last]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("key", [None, "rows"])
def test_a_large_file_is_never_whole_in_memory(tmp_path: Path, name: str, key: str | None) -> None:
    text = json.dumps({"text": "hello " * 2000, "label": "x"})
    path = tmp_path / name
    between = ",\n" if name == "a.json" or key is not None else "\n"
    begin, end = ("", "") if between == "\n" else ("[", "]")
    if key is not None:
        begin, end = f'{{"n": 1, "{key}": [', "]}"
    path.write_text(begin + between.join([text] * 1500) + end)
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path, settings_of(), Findings()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1500
    assert peak < 12_000_000 < 17_000_000 < path.stat().st_size


def test_a_value_across_the_ends_of_blocks_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"n": 12345, "t": 'a\\"b', "u": "\U0001f600", "f": -1.5e3, "b": [True, None]}] * 3
    documents: list[Any] = [rows, {"k": rows, "v": 1}, {"a": rows[0], "b": rows[1]}]
    monkeypatch.setattr("recipes.data.readers.json_text._CHUNK", 1)
    for document in documents:
        for indent in (None, 1):
            text = json.dumps(document, indent=indent, ensure_ascii=True)
            found = values(write_bytes(tmp_path / "a.json", text.encode()))
            assert [{k: v for k, v in row.items() if k != "id"} for row in found] == (
                rows[: len(found)]
            )
            assert len(found) in (2, 3)
