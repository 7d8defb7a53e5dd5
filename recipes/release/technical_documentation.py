"""A skeleton of the technical documentation of Annex IV of the EU AI Act, with its gaps marked.

Regulation (EU) 2024/1689, Annex IV, has nine sections. What a run knows is filled in with the place
of its evidence; what only a provider can know is asked for. The text claims no conformity: whether
the Act applies, and whether this is enough, is a lawyer's question.
"""

from __future__ import annotations

from recipes.card import MISSING
from recipes.provenance import memory_text
from recipes.release.facts import Facts
from recipes.release.layout import (
    BILL_OF_MATERIALS,
    CARD,
    DECISION,
    INSTRUCTIONS,
    MERGE,
    PRIVACY_TEXT,
    RECIPE,
    RECORD,
    REPORT_PAGE,
)
from recipes.release.markdown import figure, joined, plain, said, table, warnings

_GAP = f"**{MISSING}**"

Row = tuple[str, str]


def write(facts: Facts) -> str:
    """Return TECHNICAL_DOCUMENTATION.md."""
    sections = [
        ("1. General description of the AI system", _general(facts)),
        ("2. Elements of the system and process of its development", _development(facts)),
        ("3. Monitoring, functioning and control", _functioning(facts)),
        ("4. Appropriateness of the performance metrics", _metrics(facts)),
        ("5. Risk management system (Article 9)", [("Risks, measures, residual risk", _GAP)]),
        ("6. Relevant changes through the life cycle", _changes(facts)),
        ("7. Harmonised standards applied", [("List, or other solutions adopted", _GAP)]),
        ("8. EU declaration of conformity (Article 47)", [("Copy of the declaration", _GAP)]),
        (
            "9. Post-market monitoring (Article 72)",
            [
                ("Monitoring plan", said(facts.card.monitoring)),
                ("Where to report an incident", said(facts.card.contact)),
                ("Review or retirement", said(facts.card.retirement)),
            ],
        ),
    ]
    num_gaps = sum(_GAP in value for _, rows in sections for _, value in rows)
    num_rows = sum(len(rows) for _, rows in sections)
    blocks = [
        f"# Technical documentation of {plain(facts.name)}: a skeleton",
        *warnings(facts),
        f"After Annex IV of Regulation (EU) 2024/1689. **{num_gaps} of {num_rows} entries are not "
        "filled in, or in part only.** It is generated from a run's records, it is not legal "
        "advice, and it claims no conformity with any law or standard.",
    ]
    for title, rows in sections:
        blocks += [
            f"## {title}",
            table(["entry", "what is known, or where it is"], [list(row) for row in rows]),
        ]
    return joined(blocks)


def _general(facts: Facts) -> list[Row]:
    card, machine = facts.card, facts.record["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in facts.record["versions"].items())
    return [
        ("Intended purpose", said(card.intended_use)),
        ("Excluded uses", said(card.out_of_scope)),
        ("Provider", said(card.owner)),
        ("Version, and its relation to earlier ones", said(card.version)),
        ("Identity", f"`{facts.identity}`"),
        ("Hardware and software it interacts with", _GAP),
        ("Software versions", plain(versions)),
        ("Form in which it is passed on", "a folder of safetensors weights, tokenizer and papers"),
        ("Hardware it was made on", plain(f"{machine['cores']} cores, {memory_text(machine)}")),
        ("Hardware it is meant to run on", _GAP),
        ("Users, and persons affected", said(card.users)),
        ("Interface and instructions for the deployer", f"loading: {CARD}; the rest: {_GAP}"),
    ]


def _development(facts: Facts) -> list[Row]:
    record, card = facts.record, facts.card
    rows = record["rows"]
    held_out = f"{rows['test']:,} held-out rows; tasks: {', '.join(facts.report['tasks'])}"
    return [
        (
            "Methods and steps",
            f"a LoRA adapter on {plain(record['base']['checkpoint'])}, merged into "
            f"{facts.merge['into']}; every setting: {RECIPE}; the proof of the merge: {MERGE}",
        ),
        ("Pre-trained systems used", f"{BILL_OF_MATERIALS}; `{record['base']['identity']}`"),
        ("Design choices and their reasons, trade-offs", _GAP),
        ("Architecture", f"{plain(facts.architecture)}, {facts.num_parameters:,} parameters"),
        ("Computational resources", _compute(facts)),
        (
            "Training data",
            f"{rows['train']:,} rows, {rows['validation']:,} for choosing the checkpoint, files by "
            f"digest in {BILL_OF_MATERIALS}",
        ),
        ("Origin of the data, collection and labelling", said(card.data_origin)),
        ("Right to use the data", said(card.data_rights)),
        ("Personal data and its protection", f"{PRIVACY_TEXT}"),
        ("Human oversight (Article 14)", said(card.human_oversight)),
        ("Pre-determined changes", _GAP),
        ("Validation and testing", f"{held_out}; {REPORT_PAGE}, {DECISION}"),
        ("Test logs, dated and signed by the responsible persons", _signed(facts)),
        ("Cybersecurity", f"integrity of the files: {INSTRUCTIONS}; of the system: {_GAP}"),
    ]


def _functioning(facts: Facts) -> list[Row]:
    bias = [name for name, one in facts.figures().items() if one["family"] == "bias"]
    return [
        ("Capabilities and accuracy", f"{CARD}, {REPORT_PAGE}"),
        (
            "Accuracy for the persons or groups it is meant for",
            f"measured: {plain(', '.join(bias))}; who they are: {_GAP}" if bias else _GAP,
        ),
        ("Known limitations", said(facts.card.limitations)),
        ("Foreseeable unintended outcomes and risks to rights", _GAP),
        ("Oversight measures", said(facts.card.human_oversight)),
        ("Specification of the input", f"as the rows it was trained on: {RECIPE}"),
    ]


def _metrics(facts: Facts) -> list[Row]:
    rows = [
        (plain(check.rule), figure(check.to_json()) if check.n else plain(check.reason))
        for check in facts.verdict.checks
    ]
    return [("Why these metrics suit the purpose", _GAP), *rows]


def _changes(facts: Facts) -> list[Row]:
    return [
        ("This release", f"made {facts.created}, from a run begun {facts.record['started']}"),
        ("Record of the run", RECORD),
        ("Changes since the release before", _GAP),
    ]


def _signed(facts: Facts) -> str:
    if facts.signer is None:
        return _GAP
    approved = f"; approved by {plain(', '.join(facts.verdict.approvers))}"
    return f"signed with the key `{facts.signer.key}`" + (
        approved if facts.verdict.approvers else ""
    )


def _compute(facts: Facts) -> str:
    """Say what was spent, and the share of the base's own training where that is known.

    A share of a third is where the Commission's guidelines of July 2025 begin to take whoever
    modifies a general-purpose model for its provider.
    """
    flops = facts.training_flops
    if flops is None:
        return f"tokens are not counted in a private run; base's own training: {_GAP}"
    spent = f"at most {flops:.2g} floating-point operations (6 a parameter and token)"
    base = facts.card.base_training_flops
    if base is None:
        return f"{spent}; share of the base's own training: {_GAP}"
    return f"{spent}; {flops / base:.2g} of the base's own training (yardstick: one third)"
