"""Guesses at what the columns of a file are, from what they hold and what they are called.

Nothing here decides: `assay init` writes each guess into a recipe with its reason and with what
else it might be, for a person to correct.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recipes.data.column_facts import Column, columns_of, matches
from recipes.data.labels import list_in, separator_in
from recipes.data.missing_columns import GROUP
from recipes.errors import InputError

MAX_ROWS = 2_000
"""Rows that are looked at."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TEXT = _words(
    "text texts texte texto testo tekst message messages nachricht nachrichtentext meldung mensaje "
    "messaggio bericht body content inhalt contenu contenido contenuto inhoud description "
    "beschreibung descripcion descrizione omschrijving comment comments kommentar commentaire "
    "comentario commento opmerking review rezension avis resena recensione sentence satz phrase "
    "frase zin utterance query anfrage demande consulta richiesta complaint beschwerde reclamation "
    "ticket email mail feedback document anliegen"
)
_LABEL = _words(
    "label labels etikett etiquette etiqueta etichetta category categories kategorie kategorien "
    "categorie categoria class klasse classe clase intent intents absicht intention intencion "
    "intento queue warteschlange file cola coda wachtrij topic thema sujet tema argomento "
    "onderwerp "
    "tag tags target ziel cible objetivo sentiment stimmung department abteilung departement "
    "departamento reparto afdeling reason grund"
)
_NO_LABEL = _words(
    "channel kanal canal canale status state priority prioritat priorite prioridad priorita "
    "language lang sprache langue idioma lingua country land pays pais paese region source quelle "
    "created date datum fecha data version split agent user id year jahr month city gender sex"
)
_GROUP = _words(
    "customer customers client clients user users account accounts dialogue dialog dialogs "
    "conversation thread session document owner patient person member contact company author "
    "requester sender article kunde kunden benutzer nutzer konto gesprach vorgang dokument firma "
    "absender teilnehmer mitglied cliente compte utilisateur dossier auteur personne usuario "
    "cuenta "
    "conversacion documento utente conto klant gebruiker rekening gesprek passage title url case"
)
_CONTEXT = _words(
    "context contexts passage paragraph document knowledge source article text kontext abschnitt "
    "absatz dokument wissen contexte paragraphe contexto parrafo contesto paragrafo passaggio "
    "alinea"
)
_QUESTION = _words(
    "question questions frage frages query pregunta domanda vraag pergunta anfrage demande"
)
_ANSWER = _words(
    "answer answers antwort antworten reponse reponses respuesta respuestas risposta risposte "
    "antwoord resposta right correct gold reference solution losung"
)
_PROMPT = _words(
    "prompt prompts question query user input request anfrage frage demande pregunta domanda "
    "consulta richiesta customer kunde eingabe human inquiry"
)
_COMPLETION = _words(
    "completion completions response responses reply answer output assistant antwort reponse "
    "respuesta risposta antwoord ausgabe agent chosen solution bot"
)

_WRONG = _words("wrong incorrect hallucinated hallucination rejected bad falsch faux incorrecto")


@dataclass(frozen=True)
class Guess:
    """What one setting of a recipe should be."""

    key: str
    """Of the recipe, such as ``data.columns.text``."""

    value: str
    why: str
    others: tuple[str, ...] = ()
    """What else it might be, the likeliest first."""


@dataclass(frozen=True)
class Guesses:
    """The guesses for one recipe."""

    recipe: str
    columns: Mapping[str, Guess]
    """By our name of the column."""

    group: Guess | None = None
    label_separator: Guess | None = None
    better: str = ""
    """Another recipe that the file fits, and why; empty if there is none."""

    num_rows: int = 0
    names: tuple[str, ...] = field(default=())
    """All columns."""

    def all(self) -> list[Guess]:
        """Return all guesses, in the order of the recipe file."""
        last = (self.group, self.label_separator)
        return [*self.columns.values(), *(guess for guess in last if guess is not None)]


def guess(recipe: str, rows: Sequence[Mapping[str, Any]]) -> Guesses:
    """Guess the columns of a recipe from the first rows of a file. Pure; the same rows, the same.

    Args:
        recipe: ``chat``, ``classification`` or ``qa``.
        rows: column: value; `MAX_ROWS` are enough.

    Raises:
        InputError: if no column can be what the recipe needs. It names the columns there are.
    """
    columns = columns_of(rows)
    found = _RECIPES[recipe](columns)
    fitting = best_recipe(columns)
    if recipe == "chat" and not fitting[0]:
        found = _only_texts(columns) or found
    if isinstance(found, str):
        names = ", ".join(map(shown, (column.name for column in columns[:30]))) or "none"
        fits = f". The file fits the {fitting[0]} recipe ({fitting[1]})" if fitting[0] else ""
        raise InputError(f"{found}; the columns are {names}{fits}")
    used = {one.value for one in found.values()}
    return Guesses(
        recipe=recipe,
        columns=found,
        group=_group(columns, used),
        label_separator=_label_separator(found, columns),
        better=f"{fitting[0]} ({fitting[1]})" if fitting[0] not in ("", recipe) else "",
        num_rows=len(rows),
        names=tuple(column.name for column in columns),
    )


def likely_columns(recipe: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what a file is likely to call the columns of a recipe; nothing where it is unclear.

    Args:
        recipe: ``chat``, ``classification`` or ``qa``.
        rows: the first of the file.

    Returns:
        Our name of a column, or `GROUP`: theirs.
    """
    try:
        found = guess(recipe, rows)
    except InputError:
        return {}
    columns = {ours: one.value for ours, one in found.columns.items()}
    return columns | ({GROUP: found.group.value} if found.group is not None else {})


def best_recipe(columns: Sequence[Column]) -> tuple[str, str]:
    """Return the recipe that a file fits by its content, and why; two empty texts if unclear."""
    chat = _chat(columns)
    is_chat = not isinstance(chat, str)
    if not isinstance(chat, str) and not {"completion", "output"} & set(chat):
        return "chat", f"column {shown(next(iter(chat.values())).value)} holds whole chats"
    qa = _qa(columns)
    if not isinstance(qa, str) and _is_qa(columns, qa):
        return "qa", "there are passages, questions and their answers"
    if is_chat:
        return "chat", "there is a column of requests and one of replies"
    if not isinstance(_classification(columns), str):
        return "classification", "there is a column of texts and one of labels"
    return "", ""


def _is_qa(columns: Sequence[Column], found: Mapping[str, Guess]) -> bool:
    """Return whether questions are asked, and their answers are in passages or called so."""
    context, question, answers = (
        _named(columns, found, key) for key in ("context", "question", "answers")
    )
    is_named = matches(context.name, _CONTEXT) > 0.7 and _answer_name(answers) > 0.7
    return question.question_share > 0.5 and (is_named or _share_held(answers, context) > 0.5)


def shown(name: str) -> str:
    """Return a column's name for a comment or message: on one line, cut at 40 characters."""
    visible = name if name.isprintable() else repr(name)[1:-1]
    return repr(visible if len(visible) <= 40 else f"{visible[:40]}...")


def _ranked(
    columns: Sequence[Column], score: Callable[[Column], float], least: float
) -> list[Column]:
    scores = {column.name: score(column) for column in columns}
    kept = [column for column in columns if scores[column.name] >= least]
    return sorted(kept, key=lambda column: -scores[column.name])


def _guess(key: str, ranked: Sequence[Column], why: str) -> Guess:
    others = tuple(column.name for column in ranked[1:4])
    return Guess(f"data.columns.{key}", ranked[0].name, why, others)


def _named(columns: Sequence[Column], found: Mapping[str, Guess], key: str) -> Column:
    return next(column for column in columns if column.name == found[key].value)


def _describe(column: Column) -> str:
    words = max(1, round(column.num_words))
    return (
        f"{words} word{'s'[: words - 1]} on average, {column.distinct_share:.0%} of the values "
        "differ"
    )


def _with_name(name: float, why: str) -> str:
    return f"its name, and {why}" if name else why


# --- classification


def _text_score(column: Column) -> float:
    if not column.is_text or column.is_date or column.is_id or column.is_fraction:
        return 0.0
    content = min(column.num_words, 30) / 30 + 0.5 * min(1, 2 * column.distinct_share)
    is_prose = column.num_words >= 2 and column.num_distinct > 1
    return (content if is_prose else 0.0) + 0.7 * matches(column.name, _TEXT)


def _label_score(column: Column) -> float:
    if column.is_date or column.is_fraction or not column.filled:
        return 0.0
    name = matches(column.name, _LABEL)
    if column.is_lists:
        items = [item for found in column.lists for item in found]
        is_words = all(isinstance(item, str) for item in items) and bool(items)
        return 0.5 + name if is_words and len(set(items)) <= 0.5 * len(items) else 0.0
    repeated = len(column.texts) - column.num_distinct
    is_few = 2 <= column.num_distinct <= max(2, 0.5 * len(column.texts)) or (
        name > 0 and column.num_distinct >= 2 and len(column.texts) < 20
    )
    if not column.is_text or not is_few or column.num_words > 8:
        return 0.0
    is_other = matches(column.name, _NO_LABEL) > 0.7
    share = repeated / max(1, len(column.texts))
    return 0.5 * share + 2 * name - 0.3 * is_other - 0.5 * column.is_id


def _classification(columns: Sequence[Column]) -> dict[str, Guess] | str:
    texts = _ranked(columns, _text_score, 0.55)
    if not texts:
        return "the classification recipe needs a column of texts, and no column looks like one"
    text = texts[0]
    labels = _ranked([c for c in columns if c is not text], _label_score, 0.1)
    if not labels:
        return (
            "the classification recipe needs a column of labels (a few values that repeat) beside "
            f"the texts ({shown(text.name)}), and no column looks like one"
        )
    label = labels[0]
    key = "labels" if label.is_lists else "label"
    number = "lists of labels" if label.is_lists else f"{label.num_distinct} values that repeat"
    named = matches(text.name, _TEXT), matches(label.name, _LABEL)
    return {
        "text": _guess("text", texts, _with_name(named[0], _describe(text))),
        key: _guess(key, labels, _with_name(named[1], number)),
    }


def _label_separator(found: Mapping[str, Guess], columns: Sequence[Column]) -> Guess | None:
    if "label" not in found:
        return None
    column = _named(columns, found, "label")
    counts = Counter(text.strip() for text in column.texts)
    divided = separator_in(counts)
    listed = [label for label in counts if list_in(label) is not None]
    separator, labels = (";", listed) if listed or divided is None else divided
    num_rows = sum(counts[label] for label in labels)
    if num_rows < 0.02 * len(column.texts) or not labels:
        return None
    why = f"{num_rows:,} of {len(column.texts):,} cells hold several labels"
    return Guess("data.label_separator", separator, why)


# --- question answering


def _qa(columns: Sequence[Column]) -> dict[str, Guess] | str:
    def question_score(column: Column) -> float:
        is_prose = column.is_text and column.num_words >= 2 and not column.is_date
        return column.question_share + matches(column.name, _QUESTION) if is_prose else 0.0

    questions = _ranked(columns, question_score, 0.5)
    rest = [column for column in columns if not questions or column is not questions[0]]

    def context_score(column: Column) -> float:
        is_link = sum(text.startswith("http") for text in column.texts) > 0.5 * len(column.filled)
        is_long = _mean_length(column) >= 40 and not column.item_keys and not is_link
        length = min(_mean_length(column), 400) / 400
        return length + matches(column.name, _CONTEXT) if is_long else 0.0

    contexts = _ranked(rest, context_score, 0.3)
    if not questions or not contexts:
        what = "questions" if not questions else "passages"
        return f"the qa recipe needs a column of {what}, and no column looks like one"
    context = contexts[0]
    rest = [column for column in rest if column is not context]

    def answer_score(column: Column) -> float:
        if column.is_date or not column.filled:
            return 0.0
        name = _answer_name(column)
        held = _share_held(column, context)
        return 0.0 if held < 0.1 and not name else held + 0.8 * name

    answers = _ranked(rest, answer_score, 0.3)
    if not answers:
        return "the qa recipe needs a column of answers, and no column looks like one"
    name = {
        "context": matches(context.name, _CONTEXT),
        "question": matches(questions[0].name, _QUESTION),
        "answers": _answer_name(answers[0]),
    }
    length = f"{_mean_length(context):,.0f} characters on average"
    asked = f"{questions[0].question_share:.0%} end with a question mark"
    held = f"{_share_held(answers[0], context):.0%} are in their passage"
    return {
        "context": _guess("context", contexts, _with_name(name["context"], length)),
        "question": _guess("question", questions, _with_name(name["question"], asked)),
        "answers": _guess("answers", answers, _with_name(name["answers"], held)),
    }


def _mean_length(column: Column) -> float:
    return sum(len(_joined(value)) for value in column.filled) / max(1, len(column.filled))


def _joined(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(part for part in value if isinstance(part, str))
    return str(value) if isinstance(value, str | int | float) else ""


def _answers_in(value: Any) -> list[str]:
    """Return the texts of answers in whatever form: text, list, ``{"text": [...]}``."""
    if isinstance(value, dict):
        value = value.get("text")
    parts = value if isinstance(value, list) else [value]
    return [str(part) for part in parts if isinstance(part, str | int | float)]


def _share_held(answers: Column, contexts: Column) -> float:
    """Return the share of the answered rows whose first answer is in the context."""
    pairs = zip(answers.values, contexts.values, strict=True)
    firsts = [(_answers_in(answer)[:1], _joined(context)) for answer, context in pairs]
    held = [first[0].strip() in context for first, context in firsts if first]
    return sum(held) / max(1, len(held))


def _answer_name(column: Column) -> float:
    return 0.0 if matches(column.name, _WRONG) else matches(column.name, _ANSWER)


# --- chat


_TURN_KEYS = (frozenset(("role", "content")), frozenset(("from", "value")))


def _chat(columns: Sequence[Column]) -> dict[str, Guess] | str:
    by_name = {column.name.strip().casefold(): column for column in columns}
    turns = [
        column
        for column in columns
        if column.is_lists and any(keys <= column.item_keys for keys in _TURN_KEYS)
    ]
    both = [by_name.get("prompt"), by_name.get("completion")]
    if both[0] is not None and both[0].is_objects:
        why = "a tree of messages; the replies that people ranked first are read"
        return {"prompt": Guess("data.columns.prompt", both[0].name, why)}
    if turns and not (turns[0] in both and None not in both):
        key = "messages" if "role" in turns[0].item_keys else "conversations"
        keys = " and ".join(sorted(turns[0].item_keys & (_TURN_KEYS[0] | _TURN_KEYS[1])))
        return {key: _guess(key, turns, f"lists of turns with {keys}")} | _beside(columns)
    texts = [
        column
        for column in columns
        if (column.is_text and not (column.is_id or column.is_date)) or column in turns
    ]
    if "instruction" in by_name and "output" in by_name:
        found = {
            key: Guess(f"data.columns.{key}", by_name[key].name, "its name (Alpaca)")
            for key in ("instruction", "input", "output")
            if key in by_name
        }
        return found | _beside(columns)
    prompts = _ranked(texts, lambda column: _exchange_score(column, _PROMPT), 0.5)
    if prompts:
        rest = [column for column in texts if column is not prompts[0]]
        replies = _ranked(rest, lambda column: _exchange_score(column, _COMPLETION), 0.5)
        if replies:
            named = "its name, and " if matches(replies[0].name, _COMPLETION) else ""
            return {
                "prompt": _guess("prompt", prompts, f"its name, and {_describe(prompts[0])}"),
                "completion": _guess("completion", replies, f"{named}{_describe(replies[0])}"),
            } | _beside(columns)
    return (
        "the chat recipe needs a column of turns (lists of role and content), or a column of "
        "requests and one of replies, and no column looks like one"
    )


def _only_texts(columns: Sequence[Column]) -> dict[str, Guess] | None:
    """Return the only two columns of prose as request and reply; None if there are not just two."""
    prose = [
        column
        for column in columns
        if column.is_text and column.num_words >= 2 and not (column.is_id or column.is_date)
    ]
    if len(prose) != 2:
        return None
    why = "the only two columns of texts, in their order"
    keys = ("prompt", "completion")
    return {
        key: Guess(f"data.columns.{key}", column.name, why)
        for key, column in zip(keys, prose, strict=True)
    }


def _exchange_score(column: Column, words: frozenset[str]) -> float:
    name = matches(column.name, words)
    is_text = column.is_lists or column.num_words >= 1.5
    wrong = 0.4 * (matches(column.name, _WRONG) > 0)
    return name + min(column.num_words, 30) / 100 - wrong if name and is_text else 0.0


def _beside(columns: Sequence[Column]) -> dict[str, Guess]:
    """Return columns that chats keep beside their turns."""
    found = {}
    names = {"system": ("system", "system_prompt", "system_message"), "tools": ("tools",)}
    for key, theirs in names.items():
        for column in columns:
            if column.name.strip().casefold() in theirs and key not in found and column.filled:
                found[key] = Guess(f"data.columns.{key}", column.name, "its name")
    return found


# --- groups


def _group(columns: Sequence[Column], used: set[str]) -> Guess | None:
    """Guess the column whose values must not be on both sides of the split."""

    def score(column: Column) -> float:
        name = matches(column.name, _GROUP)
        is_repeated = 2 <= column.num_distinct < len(column.texts)
        if not column.is_text or not is_repeated or column.is_date or column.is_fraction:
            return 0.0
        has_many = column.num_distinct >= max(3, 0.01 * len(column.texts))
        is_short = column.num_words <= 12
        if not has_many or not is_short:
            return 0.0
        is_key = column.is_id and 0.1 <= column.distinct_share <= 0.9
        return name + 0.5 * is_key

    ranked = _ranked([column for column in columns if column.name not in used], score, 0.5)
    if not ranked:
        return None
    column = ranked[0]
    rows = len(column.texts) / column.num_distinct
    why = f"{column.num_distinct:,} values, {rows:.1f} rows each"
    others = tuple(one.name for one in ranked[1:4])
    named = _with_name(matches(column.name, _GROUP), why)
    return Guess("data.group", column.name, named, others)


_RECIPES: Mapping[str, Callable[[Sequence[Column]], dict[str, Guess] | str]] = {
    "chat": _chat,
    "classification": _classification,
    "qa": _qa,
}
