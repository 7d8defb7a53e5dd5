"""The recipe file: the pillars' own settings composed, read from YAML 1.2, all errors at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from eval.policy import ONE_RULE, SEVERAL_RULES, GatePolicy
from finetune.config import AdapterConfig, CheckpointConfig, Names, Settings, TrainConfig
from privacy.plan import PrivacyConfig
from privacy.refusals import why_unknown
from recipes.card import CardConfig
from recipes.data import catalog
from recipes.data.findings import Severity
from recipes.data.personal_data.kinds import Kind
from recipes.errors import InputError, Problem, Problems, nearest
from recipes.yaml_text import NotYaml, Representer, line_of, parse, plain, shortened


def _one_is_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Paths = Annotated[Names, BeforeValidator(_one_is_many)]


PersonalDataAction = Literal["error", "redact", "keep"]


class TurnsConfig(Settings):
    """What to do with chats whose turns are in an unusual order."""

    repeated: Literal["error", "merge", "keep"] = "error"
    """Two turns of the user, or two of the assistant, in a row: an error, joined by a line break
    (turns that are not learned are not joined with learned ones), or kept as they are."""

    late_system: Literal["error", "merge", "keep"] = "error"
    """A system turn after the first turn: an error, its text moved into a system turn at the start,
    or kept where it is."""

    assistant_first: Literal["error", "keep"] = "error"
    """A chat that begins with the assistant: an error, or kept and learned, as for a greeting."""


class DataConfig(Settings):
    """Where the rows are, what their columns mean, and how they are split."""

    train: Paths
    """Files, globs or folders, relative to the recipe file: csv, tsv, txt, jsonl, json (SQuAD and
    pandas too), parquet, arrow, feather, xlsx, xlsm, xlsb, xls, ods; the text kinds also as .gz,
    .zst, .bz2 or .xz. `sample:PATH` is an embedded sample, and `hub:ORG/NAME@REVISION/SPLIT` a
    Hub data set at a commit."""

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
    """Whether a row of `test` may be in `train` too, exactly or but for case, blanks, punctuation
    and Unicode forms; else that is an error."""

    encoding: str | None = None
    """Encoding of the text files, as `windows-1252` or `utf-16`; null detects it, and `assay check`
    prints it. A byte order mark in a file decides before this."""

    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """What separates the columns of a text table, as `;` or `\t`; null detects it among comma,
    semicolon, tab and vertical bar, and `assay check` prints it."""

    sheet: str | int | None = None
    """Sheet of a workbook: its name, or its number from 1; null takes the first visible one with
    rows."""

    header_row: int | None = Field(None, ge=1)
    """Line or sheet row that names the columns, from 1; null takes the first that is no title, and
    lists what it passed over."""

    rows_key: str | None = None
    """Key under which the rows of a JSON object are; null takes the only list of objects."""

    label_map: dict[str, str] = Field(default_factory=dict)
    """A spelling of a label: the label it stands for."""

    label_separator: str | None = Field(None, min_length=1)
    """Classification: what separates several labels in one cell, as `;`."""

    turns: TurnsConfig = TurnsConfig()
    """Chat: what to do with turns in an unusual order."""

    reasoning: Literal["keep", "drop"] | None = None
    """Chat: whether reasoning (thoughts before the answer, in the content between <think> and
    </think> or beside it as reasoning_content) is learned or removed. Rows with reasoning are an
    error until this is set."""

    keep_alike_together: bool = True
    """Keep rows that differ only in case, blanks, punctuation or Unicode form on one side of the
    split; false compares case and blanks alone."""

    keep_passages_together: bool = True
    """Question answering: keep all questions of one passage on one side of the split."""

    personal_data: PersonalDataAction | dict[str, PersonalDataAction] = "error"
    """What to do with personal data and secrets in the texts of rows: `error`, `redact` (replace
    each by a placeholder such as <EMAIL_3>, the same for the same value) or `keep`. For all kinds,
    or by kind, as `{email: redact, phone: keep}`; kinds that are not named are errors. Kinds:
    private_key, url_credentials, access_token, api_key, email, iban, payment_card, imei,
    national_id, phone, mac_address, ip_address, date_of_birth, street_address, password,
    person_name."""

    personal_data_key: str | None = None
    """File that `check` and `train` write the originals of all placeholders to, from which `assay
    restore` puts them back; relative to the recipe file, never in a folder of runs. null: kept
    nowhere."""

    findings: dict[str, Severity] = Field(default_factory=dict)
    """Severity of a finding by its code: `error`, `warning` or `ignore` (docs/data-checks.md)."""

    @field_validator("label_map")
    @classmethod
    def _no_empty_label(cls, given: dict[str, str]) -> dict[str, str]:
        if empty := [label for label, target in given.items() if not target.strip()]:
            raise ValueError(f"{empty[0]!r} becomes an empty label; name the label it stands for")
        return given

    @field_validator("personal_data")
    @classmethod
    def _known_kinds(
        cls, given: PersonalDataAction | dict[str, PersonalDataAction]
    ) -> PersonalDataAction | dict[str, PersonalDataAction]:
        for kind in () if isinstance(given, str) else given:
            if kind not in list(Kind):
                hint = nearest(kind, list(Kind)) or f"there are {', '.join(Kind)}"
                raise ValueError(f"there is no kind of personal data {kind!r}; {hint}")
        return given

    @field_validator("findings")
    @classmethod
    def _known_codes(cls, given: dict[str, Severity]) -> dict[str, Severity]:
        known = {kind.code for kind in catalog.all_kinds()}
        for code in given:
            if code not in known:
                hint = nearest(code, known) or "see docs/data-checks.md"
                raise ValueError(f"there is no finding {code!r}; {hint}")
            if given[code] != "error" and any(code == kind.code for kind in catalog.ESSENTIAL):
                raise ValueError(f"{code} is always an error: without it nothing can be trained")
        return given


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


def load(path: Path, overrides: Sequence[str] = (), *, needs_gate: bool = True) -> Recipe:
    """Read a recipe file and apply dotted overrides; the last one wins.

    Args:
        path: the file.
        overrides: ``KEY=VALUE`` each.
        needs_gate: whether a file without `gate` is an error; else its gate has no rules.

    Raises:
        Problems: with every error at once, each with its line and, for an unknown key, the nearest
            valid one.
        InputError: if the file cannot be read, or is no YAML mapping.
    """
    document = _read(path)
    values = plain(document)
    overridden = [_set(values, override) for override in overrides]
    if not needs_gate:
        values.setdefault("gate", {})
    return validate(values, document=document, path=path, overridden=overridden)


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return a recipe with dotted overrides applied; the last one wins.

    Raises:
        Problems: with every error at once.
    """
    values = json.loads(recipe.model_dump_json())
    overridden = [_set(values, override) for override in overrides]
    nowhere = CommentedMap()
    return validate(values, document=nowhere, path=Path(recipe.name), overridden=overridden)


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
    return _validated(CardConfig, plain(block), document=block, path=path)


def _read(path: Path, what: Literal["recipe", "card"] = "recipe") -> CommentedMap:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        write = {"recipe": f"assay init qa -o {path}", "card": "the keys of a recipe's card block"}
        raise InputError(f"there is no {what} file {path}; write one with: {write[what]}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: the {what} file cannot be read: not UTF-8") from None
    except (OSError, ValueError) as error:
        raise InputError(f"the {what} file {path} cannot be read: {error}") from None
    try:
        document = parse(text)
    except NotYaml as error:
        where = path if error.line is None else f"{path}:{error.line}"
        raise InputError(f"{where}: {error}") from None
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
            line = line_of(document, location)
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
        at[last] = plain(parse(text)) if text else None
    except NotYaml as error:
        shown = override if override.isprintable() and len(override) <= 80 else shortened(override)
        raise InputError(f"--set {shown}: {error}") from None
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
        if "." in str(location[-1]):
            *parents, key = str(location[-1]).split(".")
            return f"unknown key; write {key} under {'.'.join(parents)}:"
        return f"unknown key; {hint}"
    if found["type"] == "missing":
        return "missing; it has no default"
    messages = dict.fromkeys(str(one["msg"]).removeprefix("Value error, ") for one in ones)
    wanted = [m if i == 0 else m.removeprefix("Input should be ") for i, m in enumerate(messages)]
    message = " or ".join(wanted).replace("a valid tuple", "a list")
    value = found.get("input")
    is_one = isinstance(value, str | int | float | bool | None)
    shown = f", found {shortened(value)}" if is_one else ""
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
    yaml.Representer = Representer
    yaml.dump(json.loads(recipe.model_dump_json()), stream)
    return stream.getvalue()
