"""The recipe file: the pillars' own settings composed, read from YAML 1.2, all errors at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from eval.policy import ONE_RULE, SEVERAL_RULES, GatePolicy
from finetune.config import AdapterConfig, CheckpointConfig, Names, Settings, TrainConfig
from privacy.plan import PrivacyConfig
from privacy.refusals import why_unknown
from recipes.card import CardConfig
from recipes.errors import InputError, Problem, Problems, nearest


def _one_is_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Paths = Annotated[Names, BeforeValidator(_one_is_many)]


class DataConfig(Settings):
    """Where the rows are, what their columns mean, and how they are split."""

    train: Paths
    """Files (globs too): jsonl, json, csv, tsv, parquet, xlsx, SQuAD json; `.gz` as well. Relative
    to the recipe file. `sample:PATH` names a file of the embedded samples."""

    test: Paths | None = None
    """Files of the test rows; without them `test_fraction` of the rows is split off."""

    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the rows that is held out for the evaluation when there is no `test`."""

    max_train_rows: int | None = Field(None, ge=2)
    """Train on at most so many rows, chosen by the seed; null takes all."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Our name of a column: theirs."""

    group: str | None = None
    """Column (theirs) whose values must not straddle a split: customer, document, dialogue."""

    canaries: Literal[0] | Annotated[int, Field(ge=20)] = 0
    """Made-up records mixed into the training rows, each by the toss of a coin, for `assay audit
    --empirical` afterwards. 400 or more show gross errors; they cost some utility. 0: none."""

    drop_bad_rows: bool = False
    """Leave out rows that cannot be used, counted and listed in data.json; else they are errors."""

    allow_duplicates_across_split: bool = False
    """Whether a row of `test` may stand in `train` word for word; else that is an error."""


class EvalConfig(Settings):
    """What is asked of the base and of the candidates."""

    tasks: Literal["default"] | Names = "default"
    """`default`, or the names of some of the recipe's tasks."""

    max_items: int | None = Field(None, ge=1)
    """At most so many test rows, chosen by the seed; null takes all."""

    max_base_items: int = Field(200, ge=1)
    """Classification: the base answers so many rows zero-shot, label by label, which is slow;
    the bias and hallucination tasks use these rows for all models."""

    max_new_tokens: int = Field(64, ge=1)
    """Longest generated answer."""


class Recipe(Settings):
    """One run: everything that decides its result."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    """Name of the run and of its folder."""

    recipe: Literal["chat", "classification", "qa"]
    """Which domain: what a row is, how it is put to the model, what is measured."""

    base: CheckpointConfig
    """The pretrained model."""

    data: DataConfig
    """The company's rows."""

    adapter: AdapterConfig = AdapterConfig()
    """The LoRA adapter."""

    train: TrainConfig = TrainConfig()
    """Training."""

    privacy: PrivacyConfig | None = None
    """Differential privacy; null trains without it."""

    eval: EvalConfig = EvalConfig()
    """Evaluation."""

    gate: GatePolicy
    """What a release must satisfy, at the pessimistic end of each interval."""

    card: CardConfig = CardConfig()
    """What only people can say of the model; it stands in the documents of a release."""


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply dotted overrides; the last one wins.

    Raises:
        Problems: with every error at once, each with its line and, for an unknown key, the nearest
            valid one.
        InputError: if the file cannot be read, or is no YAML mapping.
    """
    document = _read(path)
    values = _plain(document)
    overridden = [_set(values, override) for override in overrides]
    return validate(values, document=document, path=path, overridden=overridden)


def load_card(path: Path) -> CardConfig:
    """Read the `card` block of a recipe file, or a file that holds nothing but its keys.

    Raises:
        Problems: with every error at once.
        InputError: if the file cannot be read, or is no YAML mapping.
    """
    document = _read(path, "card")
    block = document.get("card", CommentedMap() if "recipe" in document else document)
    if not isinstance(block, CommentedMap):
        raise InputError(f"{path}: wanted a mapping of the card's keys to texts")
    return _validated(CardConfig, _plain(block), document=block, path=path)


def _read(path: Path, what: Literal["recipe", "card"] = "recipe") -> CommentedMap:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        write = {"recipe": f"assay init qa -o {path}", "card": "the keys of a recipe's card block"}
        raise InputError(f"there is no {what} file {path}; write one with: {write[what]}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the {what} file {path} cannot be read: {error}") from None
    try:
        document = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise InputError(f"{path}:{line}: a key stands twice; keep one") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise InputError(f"{path}:{line}: not valid YAML 1.2: {error.problem}") from None
    except YAMLError as error:  # such as a character that YAML does not allow
        raise InputError(f"{path}: not valid YAML 1.2: {error}") from None
    if not isinstance(document, CommentedMap):
        raise InputError(f"{path}:1: wanted a mapping of keys to values, found something else")
    return document


Location = tuple[int | str, ...]
_Settings = TypeVar("_Settings", bound=Settings)


def validate(
    values: dict[str, Any],
    *,
    document: CommentedMap,
    path: Path,
    overridden: Sequence[Location] = (),
) -> Recipe:
    """Turn values into a `Recipe`; errors point into ``document``, or to the override at fault."""
    return _validated(Recipe, values, document=document, path=path, overridden=overridden)


def _validated(
    model: type[_Settings],
    values: dict[str, Any],
    *,
    document: CommentedMap,
    path: Path,
    overridden: Sequence[Location] = (),
) -> _Settings:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found: dict[Location, list[Any]] = {}
        for one in error.errors():
            found.setdefault(_known_part(values, one), []).append(one)
        problems: list[tuple[int, Problem]] = []
        for location, ones in found.items():
            line = _line(document, location)
            is_override = _is_overridden(location, document, overridden)
            where = "--set" if is_override else f"{path}:{line}"
            key = ".".join(str(part) for part in location)
            what = _explain(ones, location, model)
            problems.append((line, Problem(where, f"{key}: {what}" if key else what)))
        count = len(problems)
        what = "recipe" if model is Recipe else "card"
        raise Problems(
            f"the {what} has {count} error{'s' if count > 1 else ''}:",
            [problem for _, problem in sorted(problems, key=lambda p: p[0])],
        ) from None


def _plain(node: Any) -> Any:
    """Turn ruamel's annotated values into plain ones, which pydantic's strict mode accepts."""
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    if isinstance(node, ScalarBoolean):  # one with an anchor, which is an int to Python
        return bool(node)
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _set(values: dict[str, Any], override: str) -> Location:
    """Set one dotted key and return it as a path."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(
            f"--set {override}: wanted KEY=VALUE, as in --set train.learning_rate=1e-4"
        )
    *parents, last = key.split(".")
    at = values
    for parent in parents:
        if not isinstance(at.get(parent), dict):
            at[parent] = {}
        at = at[parent]
    try:
        at[last] = _plain(YAML(typ="rt").load(text)) if text else None
    except YAMLError:
        raise InputError(f"--set {override}: {text!r} is not valid YAML 1.2") from None
    return tuple(key.split("."))


def _known_part(values: Any, found: Any) -> Location:
    """Return the part of an error's location that is a path in the file.

    Pydantic puts the names of a union's members into the path; the errors of all members are one.
    """
    location: Location = found["loc"]
    known: list[int | str] = []
    for part in location:
        is_in_list = isinstance(values, list) and isinstance(part, int) and part < len(values)
        is_in_mapping = isinstance(values, dict) and part in values
        if is_in_list or is_in_mapping:
            values = values[part]
        elif part in (ONE_RULE, SEVERAL_RULES):
            continue  # the form of a family's rules, which was told by what is there
        elif found["type"] != "missing":
            break  # the name of a union's member
        known.append(part)
    return tuple(known)


def _is_overridden(location: Location, document: Any, overridden: Sequence[Location]) -> bool:
    """Return whether an error is in what an override set, or made where the file has nothing."""
    is_in_file = True
    for part in location:
        is_in_file = is_in_file and isinstance(document, CommentedMap) and part in document
        document = document[part] if is_in_file else None
    return any(
        location[: len(key)] == key or (not is_in_file and key[: len(location)] == location)
        for key in overridden
    )


def _line(document: Any, location: Sequence[int | str]) -> int:
    """Return the line on which a key stands, or its nearest parent that is in the file."""
    line = 1
    for part in location:
        if isinstance(document, CommentedMap) and part in document:
            if part not in (document.lc.data or ()):
                break  # merged in from an anchor
            line = document.lc.key(part)[0] + 1
            document = document[part]
        elif isinstance(document, CommentedSeq) and isinstance(part, int) and part < len(document):
            line = document.lc.item(part)[0] + 1
            document = document[part]
        else:
            break
    return line


def _explain(ones: Sequence[Any], location: Sequence[int | str], model: type[BaseModel]) -> str:
    """Say what is wrong at a place; of a union, what each of its members wanted."""
    found = ones[0]
    if found["type"] == "extra_forbidden":
        is_seed = tuple(location) == ("privacy", "seed")  # train.seed is another matter
        why = why_unknown("noise_seed" if is_seed else str(location[-1]))
        if why is not None:
            return f"this is no setting of ours: {why}"
        keys = _keys_at(model, location[:-1])
        hint = nearest(str(location[-1]), keys) or f"valid keys are {', '.join(sorted(keys))}"
        return f"unknown key; {hint}"
    if found["type"] == "missing":
        return "missing; it has no default"
    messages = dict.fromkeys(str(one["msg"]).removeprefix("Value error, ") for one in ones)
    wanted = [m if i == 0 else m.removeprefix("Input should be ") for i, m in enumerate(messages)]
    message = " or ".join(wanted).replace("a valid tuple", "a list")
    value = found.get("input")
    shown = f", found {value!r}" if isinstance(value, str | int | float | bool | None) else ""
    return f"{message[:1].lower()}{message[1:]}{shown}"


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the valid keys of the settings class at a path."""
    for part in location:
        if isinstance(part, int):
            continue  # a place in a list, whose items are all of one class
        field = model.model_fields.get(part)
        inner = None if field is None else _settings_in(field.annotation)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class in an annotation, under whatever unions and lists; None if none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_settings_in, get_args(annotation))), None)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file."""
    return Recipe.model_json_schema()


def dump(recipe: Recipe) -> str:
    """Return the recipe as YAML with every default filled in."""
    from io import StringIO

    stream = StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(json.loads(recipe.model_dump_json()), stream)
    return stream.getvalue()
