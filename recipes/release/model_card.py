"""The model card: one text, read by people, and by the Hub through its first lines.

What a person with two minutes needs comes first: the verdict, why, what it cost, what is unknown.
Every number is the run's own; where only people can know, and nobody has said, that is what stands.
"""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from finetune.identity import DENSE_WEIGHTS
from privacy.statement import digits_up
from recipes import shortfall
from recipes.card import MISSING
from recipes.data import personal_data
from recipes.handover.onnx_record import OnnxRecord
from recipes.release.facts import Facts
from recipes.release.layout import (
    BILL_OF_MATERIALS,
    DECISION,
    INSTRUCTIONS,
    LEDGER,
    MERGE,
    ONNX,
    PRIVACY_TEXT,
    REPORT,
    REPORT_PAGE,
    TECHNICAL_DOCUMENTATION,
)
from recipes.release.markdown import figure, joined, plain, said, table, warnings

_TASKS = {
    "qa": ("text-generation", "question answering from a passage"),
    "chat": ("text-generation", "chat"),
    "classification": ("text-classification", "text classification"),
}

OWNERS_WORDS = (
    ("Intended use", "intended_use"),
    ("Not to be used for", "out_of_scope"),
    ("Users, and whom the answers bear on", "users"),
    ("Known limitations", "limitations"),
    ("Human oversight", "human_oversight"),
    ("Monitoring in use", "monitoring"),
    ("Review or retirement", "retirement"),
    ("Owner", "owner"),
    ("Contact", "contact"),
    ("Licence", "licence"),
    ("Licence of the base", "base_licence"),
    ("Language", "language"),
)
DATA_WORDS = (("Origin of the rows", "data_origin"), ("Right to use them", "data_rights"))


def write(facts: Facts, onnx: OnnxRecord | None = None) -> str:
    """Return MODEL_CARD.md, which is README.md too.

    Args:
        facts: of the run and its merged model.
        onnx: what was measured of its ONNX graphs; None where there are none.
    """
    return f"---\n{_metadata(facts)}\n---\n\n" + joined(
        [
            f"# {plain(facts.name)}{_version(facts)}",
            *warnings(facts),
            plain(facts.card.summary) if facts.card.summary else "",
            _what_it_is(facts),
            "## In two minutes",
            *_two_minutes(facts),
            "## What its owner says",
            _words(facts, OWNERS_WORDS),
            "## How good it is",
            *_figures(facts),
            "## Data",
            *_data(facts),
            "## Training",
            _training(facts),
            "## Privacy",
            _privacy(facts),
            "## Use",
            *_use(facts),
            *_onnx(onnx),
            "## Papers",
            _papers(facts, onnx),
        ]
    )


def missing(facts: Facts) -> list[str]:
    """Return in words what nobody has filled in."""
    said_by = dict((*OWNERS_WORDS, *DATA_WORDS, ("Version", "version")))
    return [words for words, key in said_by.items() if getattr(facts.card, key) is None]


def task_of(facts: Facts) -> str:
    """Return the Hub's name of what the model does."""
    return _TASKS[facts.record["recipe"]][0]


def _metadata(facts: Facts) -> str:
    """Return the YAML that the Hub reads, without the lines around it.

    A base that is no repository of the Hub is not named: the Hub would link another one.
    """
    checkpoint = facts.record["base"]["checkpoint"]
    is_public = facts.is_base_on_hub
    kind, words = _TASKS[facts.record["recipe"]]
    language = facts.card.language
    data = ModelCardData(
        license=facts.card.licence,
        language=[one.strip() for one in language.split(",")] if language else None,
        library_name="transformers",
        pipeline_tag=kind,
        tags=["assay", "lora", facts.record["recipe"]],
        base_model=checkpoint if is_public else None,
        base_model_relation="finetune" if is_public else None,
        model_name=facts.name,
        eval_results=[
            EvalResult(
                task_type=kind,
                task_name=words,
                dataset_type="private",
                dataset_name=f"held-out rows of {facts.name}: {name.partition('/')[0]}",
                dataset_revision=facts.report["tasks"][name.partition("/")[0]]["data"],
                metric_type=name.partition("/")[2],
                metric_name=f"{name.partition('/')[2]} (95 % interval, items)",
                metric_value=f"{figure(one)} (n={one['n']})",
            )
            for name, one in facts.figures().items()
            if one["value"] is not None
        ],
    )
    return str(data.to_yaml())


def _version(facts: Facts) -> str:
    return f" {facts.card.version}" if facts.card.version else ""


def _what_it_is(facts: Facts) -> str:
    how = "with" if facts.privacy else "without"
    words = _TASKS[facts.record["recipe"]][1]
    return (
        f"A model for {words}: a LoRA adapter of rank {facts.recipe['adapter']['rank']}, trained "
        f"{how} differential privacy on {facts.record['rows']['train']:,} rows on "
        f"`{facts.record['base']['checkpoint']}` ({facts.record['quantization']}), and merged into "
        f"{facts.merge['into']}."
    )


def _two_minutes(facts: Facts) -> list[str]:
    verdict = facts.verdict
    holds = f"{verdict.num_passed} of {len(verdict.checks)} rules hold"
    approved = f"; approved by {plain(', '.join(verdict.approvers))}" if verdict.approvers else ""
    return [
        f"**Verdict: {verdict.outcome}** ({holds}{approved}).",
        "**Why.** The gate compares the pessimistic end of each 95 % interval with its bound.",
        table(
            ["rule", "measured, 95 % interval", "items", "holds", "reason"],
            [
                [
                    plain(check.rule),
                    figure(check.to_json()) if check.n else _bare(check.to_json()["value"]),
                    f"{check.n:,}" if check.n else "",
                    "yes" if check.passed else "**no**",
                    plain(check.reason),
                ]
                for check in verdict.checks
            ],
        ),
        f"**What it cost.** {_cost(facts)}",
        "**What is unknown.**",
        "\n".join(f"- {line}" for line in _unknown(facts)),
    ]


def _bare(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _cost(facts: Facts) -> str:
    training = facts.record.get("training", {})
    machine = facts.record["machine"]
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    parts = [
        f"Training: {training['num_seconds']:,.0f} s for {training['num_parameters']:,} trained "
        f"parameters on {machine['cores']} core(s) and {plain(gpus)}."
        if training
        else "The cost of training was not recorded.",
        f"Evaluation: {facts.report['num_seconds']:,.1f} s.",
        f"To serve: {facts.num_parameters:,} parameters, {facts.num_bytes / 1e6:,.1f} MB.",
    ]
    if facts.privacy:
        parts.append(f"Privacy spent: epsilon {digits_up(facts.privacy.epsilon)}.")
    return " ".join(parts)


def _unknown(facts: Facts) -> list[str]:
    """Say what a reader might take for known."""
    gaps = missing(facts)
    figures = facts.figures()
    asked = {check.metric for check in facts.verdict.checks}
    undefined = [name for name, one in figures.items() if one["value"] is None]
    not_asked = [n for n in figures if n not in asked and n.partition("/")[2] not in asked]
    fewest = min((check.n for check in facts.verdict.checks if check.n), default=0)
    lines = [
        "How it does on anything but held-out rows of the same source as its training rows: "
        "no other data was asked.",
        f"Whatever shows in fewer than one in {max(1, fewest // 3):,} cases: the smallest sample "
        f"behind a rule has {fewest:,} items."
        if fewest
        else "",
        f"Whether {len(not_asked)} of {len(figures)} figures are good enough: no rule asks about "
        "them."
        if not_asked
        else "",
        f"These figures, undefined on the items asked: {plain(', '.join(undefined))}."
        if undefined
        else "",
        "What single training rows can be read out of it: it was trained without differential "
        "privacy."
        if not facts.privacy
        else "What it reveals of test rows, and of the base's own training data: the epsilon is "
        "about the training rows alone.",
        "Energy, emissions and peak memory: not measured.",
        f"What its owner has not said: {'; '.join(gaps)}." if gaps else "",
    ]
    return [line for line in lines if line]


def _words(facts: Facts, fields: tuple[tuple[str, str], ...]) -> str:
    rows = [[words, said(getattr(facts.card, key))] for words, key in fields]
    return table(["", "in its owner's words"], rows)


def _figures(facts: Facts) -> list[str]:
    base = facts.base_figures()
    rows = [
        [
            one["family"],
            plain(name),
            {True: "higher", False: "lower", None: "neither"}[one["higher_is_better"]],
            figure(one),
            f"{one['n']:,}",
            figure(base.get(name)),
        ]
        for name, one in facts.figures().items()
    ]
    return [
        table(["family", "figure", "better", "this model", "items", "base"], rows),
        "95 % intervals, on held-out rows. The base may have been asked fewer of the items; the "
        f"paired differences are in {REPORT_PAGE}. Bias and hallucination are measured on small "
        "probe sets: they tell this model from its base, and certify nothing.",
    ]


def _data(facts: Facts) -> list[str]:
    rows = facts.record["rows"]
    files = [[f"`{plain(n)}`", f"`{d}`"] for n, d in facts.record["data"]["files"].items()]
    return [
        table(["file", "SHA-256"], files),
        ", ".join(f"{plain(k.replace('_', ' '))} {v:,}" for k, v in rows.items())
        + f". Training rows: `{facts.record['data']['fingerprint']}`.",
        _personal_data(facts),
        _words(facts, DATA_WORDS),
    ]


def _personal_data(facts: Facts) -> str:
    """Return what was redacted from the texts of the rows, by kind and count."""
    words = personal_data.in_words(facts.record.get("personal_data"))
    return f"Personal data in the texts of the rows: {plain(words)}."


def _training(facts: Facts) -> str:
    shown: dict[str, Any] = {
        "base": f"`{facts.record['base']['checkpoint']}`, `{facts.record['base']['identity']}`",
        "base held as": facts.record["quantization"],
    }
    for part in ("adapter", "train"):
        shown |= {
            f"{part}.{key}": "none" if value is None else plain(value)
            for key, value in facts.recipe[part].items()
            if value not in ([], None)
        }
    shown["started"] = facts.record["started"]
    shown["versions"] = ", ".join(f"{k} {v}" for k, v in facts.record["versions"].items())
    return table(["setting", "value"], [[key, str(value)] for key, value in shown.items()])


def _privacy(facts: Facts) -> str:
    if facts.privacy is None:
        return (
            "Trained without differential privacy: nothing bounds what the model may reveal of a "
            f"training row. See {PRIVACY_TEXT}."
        )
    papers = f"The whole statement: {PRIVACY_TEXT}; the account: {LEDGER}."
    taken = facts.record.get("training", {}).get("num_steps")
    fewer = shortfall.in_words(taken, facts.privacy.steps_planned)
    return " ".join(filter(None, [plain(facts.privacy.in_words), fewer, papers]))


def _use(facts: Facts) -> list[str]:
    if DENSE_WEIGHTS in facts.hashes:
        return [
            "\n".join(
                [
                    "```python",
                    "from sentence_transformers import SentenceTransformer",
                    "",
                    'model = SentenceTransformer("DIR")',
                    'logits = model.encode(["a text"], convert_to_tensor=True)',
                    "probabilities = logits.softmax(-1)  # sigmoid() where labels may hold at once",
                    "# their order is that of id2label in config.json",
                    "```",
                ]
            )
        ]
    kind = "ForCausalLM" if task_of(facts) == "text-generation" else "ForSequenceClassification"
    lines = [
        "```python",
        f"from transformers import AutoModel{kind}, AutoTokenizer",
        "",
        f'model = AutoModel{kind}.from_pretrained("DIR", dtype="auto", trust_remote_code=False)',
        'tokenizer = AutoTokenizer.from_pretrained("DIR")',
        "```",
    ]
    if facts.merge["into"] != "dequantised nf4":
        return ["\n".join(lines)]
    return [
        "\n".join(lines),
        "**Do not load it in 4-bit.** Its weights lie on the 4-bit grid of the base that it was "
        "trained on, and quantising them again erases most of what was learned. It was evaluated "
        "in 16-bit; quantised in any other way it is another model, to be evaluated by itself.",
    ]


def _onnx(record: OnnxRecord | None) -> list[str]:
    if record is None:
        return []
    rows = [
        [
            f"`onnx/{one.file}`",
            f"{one.size_bytes / 1e6:,.1f} MB",
            f"{one.max_difference:.1e}",
            f"{one.same_labels:.2%}",
            f"{one.median_milliseconds:.1f} ms",
        ]
        for one in record.files
    ]
    columns = ["graph", "size", "largest difference of a probability", "same labels"]
    warning = record.warning()
    return [
        "**ONNX.** Beside the merged classifier in float32, measured on "
        f"{record.num_texts - record.num_other_tokens:,} {record.texts} by {record.engine}, one "
        "thread, one text at once:",
        table([*columns, "median a text"], rows),
        *([f"**{warning}**"] if warning else []),
    ]


def _papers(facts: Facts, onnx: OnnxRecord | None) -> str:
    signed = "its signature" if facts.is_signed else f"**{MISSING}: nobody has signed it**"
    papers = [
        (REPORT_PAGE, "every figure, its interval and its comparison with the base"),
        (DECISION, "what the gate decided, rule by rule"),
        (MERGE, "the proof that the merged model answers like the evaluated one"),
        (PRIVACY_TEXT, "what can and cannot be said of the people in the data"),
        (BILL_OF_MATERIALS, "what it is made of (CycloneDX 1.6)"),
        (TECHNICAL_DOCUMENTATION, "a skeleton after Annex IV of the EU AI Act, with its gaps"),
        (REPORT, "the figures, for machines; scores of single items lie beside it, without text"),
        *([(ONNX, "how far the ONNX graphs are from the merged model")] if onnx else []),
        (INSTRUCTIONS, f"how to check this folder, with Assay or without: {signed}"),
    ]
    return "\n".join(f"- [`{name}`]({name}): {words}" for name, words in papers)
