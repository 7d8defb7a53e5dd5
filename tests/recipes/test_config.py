"""The recipe file: every error at once, where it stands, and what was probably meant."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes import config
from recipes.config import Recipe
from recipes.errors import InputError, Problem, Problems

GOOD = """\
name: a-run
recipe: qa
base:
  checkpoint: folder
data:
  train: a.jsonl
gate:
  accuracy: {metric: f1, at_least: 0.5}
"""

Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def from_text(text: str, *overrides: str) -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return config.load(path, overrides)

    return from_text


def problems_of(load: Load, text: str, *overrides: str) -> list[tuple[int, str]]:
    """Return the line and the words of every problem; 0 is the line of an override."""
    with pytest.raises(Problems) as caught:
        load(text, *overrides)

    def line(problem: Problem) -> int:
        return 0 if problem.where == "--set" else int(problem.where.rpartition(":")[2])

    return [(line(problem), problem.what) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("lines", "line", "key", "near"),
    [
        ("nmae: x", 9, "nmae", "name"),
        ("train:\n  learning_rat: 1e-4", 10, "train.learning_rat", "learning_rate"),
        ("adapter: {rank: 8,\n  aplha: 8}", 10, "adapter.aplha", "alpha"),
        ("privacy:\n\n  # a comment\n  epsilom: 8", 12, "privacy.epsilom", "epsilon"),
        ("eval: {task: default}", 9, "eval.task", "tasks"),
    ],
)
def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_key(
    load: Load, lines: str, line: int, key: str, near: str
) -> None:
    wanted = (line, f"{key}: unknown key; did you mean {near}?")
    assert problems_of(load, GOOD + lines + "\n") == [wanted]


def test_a_key_two_levels_down_is_refused_with_its_line_and_the_nearest_key(load: Load) -> None:
    text = GOOD.replace("{metric: f1, at_least: 0.5}", "\n    metric: f1\n    at_leest: 0.5")
    unknown = (10, "gate.accuracy.at_leest: unknown key; did you mean at_least?")
    assert unknown in problems_of(load, text)
    base = GOOD.replace("  checkpoint: folder", "  checkpoint: folder\n  quantisation: none")
    found = problems_of(load, base)
    assert found == [(5, "base.quantisation: unknown key; did you mean quantization?")]


def test_each_of_several_rules_of_a_family_is_told_of_on_its_own_line(load: Load) -> None:
    rules = (
        "  accuracy:\n"
        "    - {metric: f1, at_least: 0.5}\n"
        "    - metric: exact_match\n"
        "      at_leest: 0.4\n"
        "    - {metric: f1, at_least: much}\n"
        "    - f1\n"
    )
    text = GOOD.replace("  accuracy: {metric: f1, at_least: 0.5}\n", rules)
    found = problems_of(load, text)
    assert (11, "gate.accuracy.1.at_leest: unknown key; did you mean at_least?") in found
    lines = {line: what for line, what in found if "at_leest" not in what}
    assert lines.keys() >= {12, 13}
    assert lines[12].startswith("gate.accuracy.2.at_least:")
    assert "'much'" in lines[12]
    assert lines[13].startswith("gate.accuracy.3:")
    twice = rules.replace("at_leest: 0.4", "at_least: 0.4").replace("much", "0.6")
    twice = twice.replace("    - f1\n", "")
    [(line, what)] = problems_of(
        load, GOOD.replace("  accuracy: {metric: f1, at_least: 0.5}\n", twice)
    )
    assert (line, "asked twice: accuracy/f1/at_least" in what) == (7, True), what
    margins = "".join(
        f"    - {{metric: {metric}, release: ../{month}/first, better_than_release_by: 0}}\n"
        for metric, month in (("f1", "may"), ("exact_match", "june"))
    )
    alike = GOOD.replace("{metric: f1, at_least: 0.5}", f"\n{margins}")
    [(line, what)] = problems_of(load, alike)
    assert "several earlier releases are called first" in what
    good = twice.replace("    - {metric: f1, at_least: 0.6}\n", "")
    recipe = load(GOOD.replace("  accuracy: {metric: f1, at_least: 0.5}\n", good))
    assert [rule.metric for rule in recipe.gate.rules("accuracy")] == ["f1", "exact_match"]


def test_where_nothing_is_near_the_valid_keys_are_listed(load: Load) -> None:
    [(line, what)] = problems_of(load, GOOD + "zzz: 1\n")
    assert line == 9
    assert "valid keys are adapter, base, card, data" in what


def test_all_errors_are_told_at_once_in_the_order_of_their_lines(load: Load) -> None:
    text = (
        "train: {epochs: many, seed: -1}\n"
        "name: no spaces\n"
        "gate: {accuracy: {metric: f1}}\n"
        "data: {train: a.jsonl, test_fraction: 2}\n"
        "recipe: poetry\n"
    )
    found = problems_of(load, text)
    keys = [(line, what.partition(":")[0]) for line, what in found]
    assert sorted(keys) == [
        (1, "base"),
        (1, "train.epochs"),
        (1, "train.seed"),
        (2, "name"),
        (3, "gate.accuracy"),
        (4, "data.test_fraction"),
        (5, "recipe"),
    ]
    assert [line for line, _ in keys] == sorted(line for line, _ in keys)
    assert (
        dict(found)[5] == "recipe: input should be 'chat', 'classification' or 'qa', found 'poetry'"
    )
    assert (1, "base: missing; it has no default") in found


def test_more_than_twenty_errors_are_counted_and_not_all_shown(load: Load) -> None:
    with pytest.raises(Problems, match=r"has 25 errors") as caught:
        load(GOOD + "".join(f"unknown{i}: 1\n" for i in range(25)))
    text = str(caught.value)
    assert text.count("unknown key") == 20
    assert "and 5 more (25 in all)" in text


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("train: {epochs: '3'}", "train.epochs: input should be a valid number, found '3'"),
        ("train: {batch_size: 1.5}", "train.batch_size: input should be a valid integer"),
        ("train: {batch_size: true}", "train.batch_size: input should be a valid integer"),
        ("train: {epochs: .nan}", "train.epochs: input should be a finite number"),
        ("train: {epochs: .inf}", "train.epochs: input should be a finite number"),
        ("train: {allow_truncation: no}", "train.allow_truncation: input should be a valid bool"),
        ("train: 5", "train: "),
        ("eval: {tasks: [1]}", "eval.tasks: input should be 'default' or a valid string"),
    ],
)
def test_a_value_of_another_type_is_refused(load: Load, line: str, what: str) -> None:
    [(number, said)] = problems_of(load, f"{GOOD}{line}\n")
    assert number == 9
    assert said.startswith(what)


@pytest.mark.parametrize(
    ("line", "key", "wanted"),
    [
        ("adapter: {targets: 5}", "adapter.targets", "'all-linear' or a list, found 5"),
        ("adapter: {targets: [1, q_proj, 2]}", "adapter.targets", "'all-linear' or a valid string"),
        ("adapter: {targets: {a: b}}", "adapter.targets", "'all-linear' or a list"),
        ("privacy: {delta: abc}", "privacy.delta", "a valid number or 'auto', found 'abc'"),
        ("train: {early_stopping: soon}", "train.early_stopping", "a valid integer, found 'soon'"),
        ("train: {gradient_checkpointing: 3}", "train.gradient_checkpointing", "'auto' or a valid"),
    ],
)
def test_a_key_that_takes_several_types_gives_one_error_that_names_them(
    load: Load, line: str, key: str, wanted: str
) -> None:
    [(number, said)] = problems_of(load, f"{GOOD}{line}\n")
    assert number == 9
    assert said.startswith(f"{key}: input should be {wanted}")


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.0001", "1.0e-4"])
def test_a_number_with_an_exponent_is_a_number(load: Load, text: str) -> None:
    assert load(f"{GOOD}train: {{learning_rate: {text}}}\n").train.learning_rate == 1e-4


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "y", "n"])
def test_no_is_a_word(load: Load, word: str) -> None:
    assert load(GOOD.replace("name: a-run", f"name: {word}")).name == word


def test_anchors_and_merged_keys_are_read_and_their_errors_placed(load: Load) -> None:
    anchored = "adapter: {use_dora: &yes_please true}\n"
    assert load(GOOD + anchored).adapter.use_dora is True
    merged = "train: &t {epochs: 1}\neval:\n  <<: *t\n"
    [(line, what)] = problems_of(load, GOOD + merged)
    assert (line, what.partition(";")[0]) == (10, "eval.epochs: unknown key")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "name: b\n", r"recipe\.yaml:9: a key stands twice"),
        ("- a\n- b\n", "wanted a mapping"),
        ("", "wanted a mapping"),
        ("just words\n", "wanted a mapping"),
        (GOOD + "train: [\n", r"recipe\.yaml:10: not valid YAML"),
        (GOOD + "eval: \x07\n", "not valid YAML"),
        (GOOD + "---\nname: second\n", "not valid YAML"),
    ],
)
def test_what_is_no_recipe_file_is_refused_in_words(load: Load, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(text)


def test_a_file_that_is_missing_or_no_text_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no recipe file .*assay init"):
        config.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(InputError, match="cannot be read"):
        config.load(tmp_path / "latin.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        config.load(tmp_path)


def test_an_override_reaches_any_depth_and_the_last_one_wins(load: Load) -> None:
    recipe = load(
        GOOD,
        "name=other",
        "train.learning_rate=1e-3",
        "train.learning_rate=5e-5",
        "privacy.epsilon=3",  # of a section that the file does not have
        "gate.accuracy.at_least=0.9",
        "data.train=[b.jsonl, c.jsonl]",
        "adapter.targets=[q_proj]",
        "data.columns={answers: antworten}",
        "train.early_stopping=",
    )
    assert recipe.name == "other"
    assert recipe.train.learning_rate == 5e-5
    assert recipe.train.early_stopping is None
    assert recipe.privacy is not None
    assert recipe.privacy.epsilon == 3
    assert recipe.gate.accuracy is not None
    assert recipe.gate.accuracy.at_least == 0.9
    assert recipe.data.train == ("b.jsonl", "c.jsonl")
    assert recipe.adapter.targets == ("q_proj",)
    assert recipe.data.columns == {"answers": "antworten"}


@pytest.mark.parametrize("override", ["train.epochs", "=5", "train..epochs=1", ".a=1", "a.=1"])
def test_an_override_that_is_no_key_and_value_is_refused(load: Load, override: str) -> None:
    with pytest.raises(InputError, match=r"wanted KEY=VALUE, as in --set train\.learning_rate"):
        load(GOOD, override)


def test_an_override_that_is_no_yaml_is_refused(load: Load) -> None:
    with pytest.raises(InputError, match=r"--set train\.report_to=\[a: not valid YAML"):
        load(GOOD, "train.report_to=[a")


def test_an_error_of_an_override_points_at_the_override(load: Load) -> None:
    text = GOOD + "train:\n  epochs: 1\n"
    assert problems_of(load, text, "train.epochz=1") == [
        (0, "train.epochz: unknown key; did you mean epochs?")
    ]
    assert problems_of(load, text, "train.epochs=no")[0][0] == 0
    assert problems_of(load, text, "privacy.epsilon=-1")[0][0] == 0
    both = problems_of(load, text + "  seed: x\n", "adapter.rank=0")
    assert {line for line, _ in both} == {0, 11}  # what the file has wrong keeps its line


PRESETS = ("chat", "classification", "qa")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_recipe_and_shows_all_that_it_needs(name: str) -> None:
    with resources.as_file(resources.files("recipes") / "presets" / f"{name}.yaml") as path:
        recipe = config.load(path)
        uncommented = re.sub(r"(?m)^(\s*)# (privacy|columns):", r"\1\2:", path.read_text())
    assert recipe.recipe == name
    assert None not in (recipe.gate.accuracy, recipe.gate.bias, recipe.gate.hallucination)
    assert "privacy:" in uncommented


def test_a_commented_setting_of_a_preset_is_valid_once_uncommented(load: Load) -> None:
    for name in PRESETS:
        text = (resources.files("recipes") / "presets" / f"{name}.yaml").read_text()
        recipe = load(re.sub(r"(?m)^(\s*)# (privacy|columns):", r"\1\2:", text))
        assert recipe.privacy is not None


def reloaded(recipe: Recipe, tmp_path: Path) -> Recipe:
    path = tmp_path / "resolved.yaml"
    path.write_text(config.dump(recipe), encoding="utf-8")
    return config.load(path)


words = st.text(alphabet=string.ascii_letters + string.digits + " -_:#'\"{}[],&*!|>%@", max_size=12)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
numbers = st.floats(1e-12, 1e12, allow_nan=False)


@settings(max_examples=25, deadline=None)  # the machine may be busy
@given(
    name=names,
    files=st.lists(words.filter(str.strip), min_size=1, max_size=3),
    columns=st.dictionaries(words, words, max_size=3),
    rate=numbers,
    delta=st.just("auto") | st.floats(1e-12, 0.5),
    targets=st.just("all-linear") | st.lists(words, max_size=3),
    stopping=st.none() | st.integers(1, 9),
)
def test_a_dumped_recipe_loads_as_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    files: Sequence[str],
    columns: dict[str, str],
    rate: float,
    delta: Any,
    targets: Any,
    stopping: int | None,
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": name,
            "recipe": "chat",
            "base": {"checkpoint": files[0]},
            "data": {"train": files, "columns": columns},
            "train": {"learning_rate": rate, "early_stopping": stopping},
            "adapter": {"targets": targets},
            "privacy": {"delta": delta},
            "gate": {"accuracy": {"metric": "f1", "at_least": rate}},
        }
    )
    assert reloaded(recipe, tmp_path_factory.mktemp("dump")) == recipe


def nodes_of(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for node in schema:
            yield from nodes_of(node)


def test_the_json_schema_is_json_whose_references_resolve() -> None:
    schema = json.loads(json.dumps(config.schema(), allow_nan=False))
    types = {"object", "array", "string", "number", "integer", "boolean", "null"}
    for node in nodes_of(schema):
        if isinstance(reference := node.get("$ref"), str):
            assert reference.removeprefix("#/$defs/") in schema["$defs"]
        if isinstance(kind := node.get("type"), str):
            assert kind in types


def test_the_json_schema_describes_every_key() -> None:
    schema = config.schema()
    classes = {"Recipe": schema} | schema["$defs"]
    assert {"DataConfig", "TrainConfig", "AdapterConfig", "PrivacyConfig"} <= classes.keys()
    for name, one in classes.items():
        assert one["type"] == "object"
        assert one["additionalProperties"] is False, name
        bare = [
            key
            for key, value in one["properties"].items()
            if not value.get("description") and "$ref" not in value
        ]
        assert not bare, f"{name}: {bare}"
    assert set(schema["required"]) == {"name", "recipe", "base", "data", "gate"}


def test_a_card_is_read_from_a_recipe_from_its_block_or_from_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    for text in (GOOD + "card: {owner: ACME}\n", "card:\n  owner: ACME\n", "owner: ACME\n"):
        path.write_text(text)
        assert config.load_card(path).owner == "ACME"
    path.write_text(GOOD)
    assert config.load_card(path).owner is None
    path.write_text("owner: ACME\nintended_us: x\nversion: no spaces\n")
    with pytest.raises(Problems) as caught:
        config.load_card(path)
    assert str(caught.value).startswith("the card has 2 errors:")
    assert f"{path}:2: intended_us: unknown key; did you mean intended_use?" in str(caught.value)
    path.write_text("card: text\n")
    with pytest.raises(InputError, match="wanted a mapping"):
        config.load_card(path)


def test_an_unknown_kind_of_personal_data_is_named_with_the_nearest(load: Load) -> None:
    with pytest.raises(Problems, match=r"no kind of personal data 'emial'; did you mean email\?"):
        load(GOOD, "data.personal_data={emial: redact}")
    with pytest.raises(Problems, match="'error', 'redact' or 'keep'"):
        load(GOOD, "data.personal_data=hide")
    assert load(GOOD, "data.personal_data={email: redact}").data.personal_data == {
        "email": "redact"
    }
