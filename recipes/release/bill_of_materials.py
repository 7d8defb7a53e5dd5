"""What the model is made of: a CycloneDX 1.6 bill of materials with its model card.

The JSON is written here and held against the strict schema that `cyclonedx-python-lib` brings.
The library's own classes (11.12) know neither a model card nor a data set and drop both without a
word when they read one (its issues 912 and 913).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from privacy.statement import delta_up, digits_up
from recipes.decisions import is_refuted
from recipes.release.facts import Facts
from recipes.release.model_card import missing, task_of

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:assay:release")


class BillRefused(Exception):
    """The bill of materials does not satisfy its schema. Our bug."""


def write(facts: Facts) -> str:
    """Return the bill of materials as JSON that satisfies the strict schema.

    Raises:
        BillRefused: naming what does not.
    """
    text = json.dumps(bill(facts), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    problems = violations(text)
    if problems:
        raise BillRefused("the bill of materials is not valid CycloneDX 1.6: " + problems[0])
    return text


def violations(text: str) -> list[str]:
    """Return in which ways a text is no CycloneDX 1.6 bill, by the strict schema; offline."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text, all_errors=True)
    return [str(error.data.message)[:300] for error in found or ()]


def bill(facts: Facts) -> dict[str, Any]:
    """Return the bill's JSON values; the same facts give the same bill, but for its time."""
    version = facts.card.version
    base = facts.record["base"]
    data_sets = _data_sets(facts)
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": facts.name,
        **({"version": version} if version else {}),
        **({"licenses": [{"license": {"name": facts.card.licence}}]} if facts.card.licence else {}),
        **({"supplier": {"name": facts.card.owner}} if facts.card.owner else {}),
        "pedigree": {
            "ancestors": [_base(facts)],
            "notes": f"LoRA adapter {facts.merge['adapter']} merged into {facts.merge['into']} "
            f"of {base['identity']}.",
        },
        "modelCard": _model_card(facts, [one["bom-ref"] for one in data_sets]),
        "components": [
            {
                "type": "file",
                "bom-ref": f"file:{name}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
            for name, digest in facts.hashes.items()
        ],
        "properties": _properties(
            {
                "assay:identity": facts.identity,
                "assay:adapter": facts.merge["adapter"],
                "assay:base": base["identity"],
                "assay:chat_template_sha256": facts.hashes.get("chat_template.jinja", "none"),
                "assay:parameters": str(facts.num_parameters),
            }
        ),
    }
    libraries = _libraries(facts)
    refs = [one["bom-ref"] for one in (*data_sets, *libraries)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{facts.identity} {facts.created}')}",
        "version": 1,
        "metadata": {
            "timestamp": facts.created,
            "lifecycles": [{"phase": "post-build"}],
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "assay",
                        "version": facts.record["versions"]["assay"],
                    }
                ]
            },
            "component": model,
            # overrides first, here as in every paper
            "properties": _properties(
                {f"assay:override:{i}": str(o) for i, o in enumerate(facts.verdict.overrides)}
                | {
                    "assay:outcome": facts.verdict.outcome,
                    "assay:signed": "yes" if facts.is_signed else "no",
                }
                | ({"assay:not_completed": ", ".join(missing(facts))} if missing(facts) else {})
            ),
        },
        "components": [*data_sets, *libraries],
        "dependencies": [
            {"ref": "model", "dependsOn": refs},
            *({"ref": ref} for ref in refs),
        ],
    }


def _base(facts: Facts) -> dict[str, Any]:
    name = facts.record["base"]["checkpoint"]
    revision = facts.recipe["base"].get("revision")
    purl = f"pkg:huggingface/{quote(name)}@{revision}" if facts.is_base_on_hub else None
    return {
        "type": "machine-learning-model",
        "bom-ref": "base",
        "name": name,
        **({"version": revision} if revision else {}),
        **({"purl": purl} if purl else {}),
        **(
            {"licenses": [{"license": {"name": facts.card.base_licence}}]}
            if facts.card.base_licence
            else {}
        ),
        "properties": _properties(
            {
                "assay:identity": facts.record["base"]["identity"],
                "assay:quantization": facts.record["quantization"],
            }
        ),
    }


def _data_sets(facts: Facts) -> list[dict[str, Any]]:
    """Return the training files and the items of each task, by digest; nothing of what they say."""
    files = [
        {
            "type": "data",
            "bom-ref": f"data:{i}",
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}],
            "data": [{"type": "dataset", "name": name, "description": "rows, before the split"}],
        }
        for i, (name, digest) in enumerate(facts.record["data"]["files"].items())
    ]
    items = [
        {
            "type": "data",
            "bom-ref": f"items:{task}",
            "name": f"items of the task {task}",
            "hashes": [{"alg": "SHA-256", "content": result["data"].removeprefix("sha256:")}],
            "data": [
                {
                    "type": "dataset",
                    "name": task,
                    "description": f"{result['n']} held-out or probe items, with their prompts",
                }
            ],
        }
        for task, result in facts.report["tasks"].items()
    ]
    return [*files, *items]


def _libraries(facts: Facts) -> list[dict[str, Any]]:
    versions = facts.record["versions"]
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{quote(version)}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{quote(version)}",
        }
        for name, version in versions.items()
        if name not in ("python", "assay") and version[:1].isdigit()
    ]


def _model_card(facts: Facts, data_sets: list[str]) -> dict[str, Any]:
    card = facts.card
    considerations: dict[str, Any] = {
        "users": [card.users] if card.users else [],
        "useCases": [card.intended_use] if card.intended_use else [],
        "technicalLimitations": [
            *([card.limitations] if card.limitations else []),
            *([f"Not to be used for: {card.out_of_scope}"] if card.out_of_scope else []),
            "Measured on held-out rows of the same source as the training rows only.",
            *(
                ["Quantising it to 4 bits erases most of what was learned."]
                if facts.merge["into"] == "dequantised nf4"
                else []
            ),
        ],
    }
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": task_of(facts),
            "architectureFamily": "transformer",
            "modelArchitecture": facts.architecture,
            "datasets": [{"ref": ref} for ref in data_sets],
            "inputs": [{"format": "text"}],
            "outputs": [
                {"format": "text" if task_of(facts) == "text-generation" else "class label"}
            ],
        },
        "quantitativeAnalysis": {"performanceMetrics": _metrics(facts)},
        "considerations": {key: value for key, value in considerations.items() if value},
        "properties": _properties(_privacy(facts)),
    }


def _metrics(facts: Facts) -> list[dict[str, Any]]:
    metrics = []
    for name, one in facts.figures().items():
        task, _, metric = name.partition("/")
        entry: dict[str, Any] = {"type": metric, "slice": f"{task}, {one['n']} items"}
        if one["value"] is None:
            entry["value"] = "undefined"
        else:
            entry["value"] = str(one["value"])
            entry["confidenceInterval"] = {
                "lowerBound": str(one["low"]),
                "upperBound": str(one["high"]),
            }
        metrics.append(entry)
    return metrics


def _privacy(facts: Facts) -> dict[str, str]:
    said, refuted = facts.privacy, is_refuted(facts.empirical)
    if said is None:
        return {"assay:privacy": "trained without differential privacy"}
    return {
        "assay:privacy:epsilon": digits_up(said.epsilon),
        "assay:privacy:delta": delta_up(said.delta),
        "assay:privacy:unit": said.unit,
        "assay:privacy:neighbours": said.adjacency,
    } | ({"assay:privacy:refuted": "by an audit with canaries"} if refuted else {})


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]
