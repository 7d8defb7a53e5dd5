"""What a release says of the people in its data: the fields that NIST SP 800-226 asks for.

NIST SP 800-226 (March 2025), Guidelines for Evaluating Differential Privacy Guarantees, wants an
epsilon stated with its delta, its unit and neighbouring relation, who is trusted, what was run, and
the hazards that the number does not show. A plain run says as plainly that it promises nothing.
"""

from __future__ import annotations

from pathlib import Path

from privacy.statement import delta_up, digits_up
from recipes import shortfall
from recipes.auditing import audit_and_report
from recipes.files import write_text
from recipes.release.facts import Facts
from recipes.release.layout import LEDGER, PRIVACY, PRIVACY_TEXT
from recipes.release.markdown import joined, plain, said, table, warnings

_TRUST = (
    "Central: whoever trains sees every row in the clear and is trusted with it; the guarantee is "
    "against whoever sees the trained weights, with any knowledge beside them."
)
_HAZARDS = (
    "Rows of the test part were asked for the evaluation and are under no guarantee; the figures "
    "and the scores of single items in this release come from them.",
    "Searching for settings on the same rows spends privacy that this account does not see, unless "
    "all runs are on one budget.",
    "Noise is drawn in 53-bit floating point: attacks on the spacing of its values (Mironov 2012) "
    "are not shut out by a discrete mechanism.",
    "Digests of the data stand in this release. They show no row, but whoever holds every row "
    "except one can test a guess at that one.",
    "The time that a step takes, its memory and the machine's logs are under no guarantee.",
)


def write(folder: Path, facts: Facts) -> None:
    """Write PRIVACY.md, and of a private run the privacy report, from what the release holds."""
    if facts.privacy is not None:
        audit_and_report(folder, (folder / PRIVACY).parent)
    write_text(folder / PRIVACY_TEXT, page(facts))


def page(facts: Facts) -> str:
    """Return PRIVACY.md."""
    head = [f"# Privacy of {plain(facts.name)}", *warnings(facts)]
    if facts.privacy is None:
        return joined(
            [
                *head,
                "**No guarantee.** The model was trained without differential privacy. Nothing "
                "bounds what it may reveal of any row it was trained on: whether a row was among "
                "them, or words of the row itself. Treat the weights as you treat the rows.",
                f"Right to use the rows: {said(facts.card.data_rights)}",
            ]
        )
    return joined(
        [
            *head,
            plain(facts.privacy.in_words),
            "## The guarantee",
            table(["field", "value"], _guarantee(facts)),
            "## What it does not cover",
            "\n".join(f"- {plain(line)}" for line in facts.privacy.not_protected),
            "## Hazards",
            "\n".join(f"- {line}" for line in _HAZARDS),
            "## How it was tested",
            _self_test(facts),
            *_canaries(facts),
        ]
    )


def _guarantee(facts: Facts) -> list[list[str]]:
    stated = facts.privacy
    assert stated is not None  # noqa: S101 (of a private run)
    rows = {
        "definition": "(epsilon, delta)-differential privacy of all released weights",
        "epsilon": f"{digits_up(stated.epsilon)}, by privacy loss distribution; an upper bound",
        "delta": delta_up(stated.delta),
        "unit of privacy": stated.unit,
        "neighbouring relation": stated.adjacency,
        "units, a public number": f"{stated.num_examples:,}",
        "trust model": _TRUST,
        "mechanism": "DP-SGD (Abadi et al. 2016): Poisson sampling, clipping of each unit's "
        "gradient, Gaussian noise",
        "sample rate": f"{stated.sample_rate:.6g}",
        "noise multiplier": f"{stated.noise_multiplier:.6g}",
        "clipping norm": f"{stated.clipping_norm:g}",
        "steps charged, and planned": f"{stated.steps_charged} of {stated.steps_planned}",
        "steps taken": _steps_taken(facts),
        "account, hash-chained": f"`{LEDGER}`",
        "every figure with its source": f"`{PRIVACY}`",
        "other accountants": f"PRV {stated.epsilon_prv:.4g}, RDP {stated.epsilon_rdp:.4g}",
        "if batches were not drawn at random": digits_up(stated.epsilon_without_amplification),
        "if neighbours replace a unit": digits_up(stated.epsilon_replace_one),
        "randomness": "the operating system's generator, without a seed",
        "right to use the rows": said(facts.card.data_rights),
    }
    return [[key, value] for key, value in rows.items()]


def _steps_taken(facts: Facts) -> str:
    stated = facts.privacy
    assert stated is not None  # noqa: S101 (of a private run)
    taken = facts.record.get("training", {}).get("num_steps")
    if taken is None:
        return "not recorded"
    fewer = shortfall.in_words(taken, stated.steps_planned)
    return fewer or f"{taken} of {stated.steps_planned}"


def _self_test(facts: Facts) -> str:
    checks = facts.record.get("privacy_self_test", [])
    if not checks:
        return "No self-test of the mechanism is on record."
    rows = [
        [plain(c["name"]), "yes" if c["passed"] else "**no**", plain(c["detail"])] for c in checks
    ]
    return table(["the mechanism, tested on itself before training", "passed", "seen"], rows)


def _canaries(facts: Facts) -> list[str]:
    if facts.empirical is None or facts.empirical["canaries"] is None:
        return ["No audit by canaries, records whose coins were sealed before training, was made."]
    return [
        "By canaries, records whose coins were sealed before training:",
        "\n".join(f"- {plain(line)}" for line in facts.empirical["canaries_in_words"]),
    ]
