"""A release mirrored into MLflow: figures with their bounds, evidence, a registered version.

The release folder stays the source of truth; the registry points at it and says what the gate
said. No prompt, no completion and no row of data is sent: evidence goes by a list of names, and
what is not on it stays where it is and is told.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recipes.errors import InputError
from recipes.files import read_json

CHAMPION = "champion"
"""Alias of the last version that the gate passed."""

EVIDENCE = (
    *("decision.json", "report.json", "record.json", "merge.json", "release.json"),
    *(
        "ledger.jsonl",
        "serving.json",
        "smoke.json",
        "gguf.json",
        "parity.json",
        "policy.*",
        "privacy*.json",
    ),
    *("bom*.json", "*.cdx.json", "*.dsse.json", "*.intoto.json*", "*.sig", "model.sig"),
    *("README.md", "MODEL_CARD.md", "SERVING.md", "VERIFY.md", "PRIVACY.md", "SHA256SUMS"),
    "TECHNICAL_DOCUMENTATION.md",
)
"""Names of files without anybody's text."""

WITH_TEXT = ("report.html", "compare.html", "samples/*")
"""Files that show examples; sent only when asked."""

_WEIGHTS = ("*.safetensors", "*.gguf", "*.onnx", "tokenizer*", "vocab*", "merges.txt", "*.model")
_DIGEST_LENGTH = 36  # that MLflow allows for the digest of a data set


@dataclass(frozen=True)
class Mirrored:
    """What is now in the registry."""

    run_id: str
    model: str
    version: str
    is_champion: bool
    """Whether the alias moved to this version."""

    sent: tuple[str, ...]
    left_out: tuple[str, ...]
    """Files of the folder that were not sent, but for weights and tokenizer."""


def mirror(
    release: Path, uri: str, *, name: str | None = None, with_text: bool = False
) -> Mirrored:
    """Log a release to MLflow and register it as a version of a model.

    Args:
        release: a release folder, finished and signed; the version points at it.
        uri: of the tracking server or store, as ``sqlite:///mlflow.db``.
        name: of the registered model; without it, that of the run.
        with_text: also send the pages that show examples.

    Raises:
        InputError: if MLflow is not installed, the store cannot be used, or the folder has no
            decision, report and record.
    """
    decision, record = _evidence(release, "decision.json"), _evidence(release, "record.json")
    report = _evidence(release, "report.json")
    name = name or str(record["name"])
    check(uri)
    client, failure = _client(uri)
    digest = str(decision["target"].get("merged") or "unknown")
    gate = verdict(decision)
    tags = {
        "digest": digest,
        "gate": gate,
        "approver": approver(decision),
        "data.fingerprint": str(record.get("data", {}).get("fingerprint", "unknown")),
    }
    sent, left_out = choose(release, with_text=with_text)
    try:
        run_id = _log(client, name, release, record, report, tags, sent)
        version = _register(client, name, release, run_id, tags)
        is_champion = gate == "PASS"
        if is_champion:
            client.set_registered_model_alias(name, CHAMPION, version)
    except failure as error:
        raise InputError(
            f"MLflow at {uri} refused: {error}; the release itself is complete"
        ) from None
    return Mirrored(
        run_id,
        name,
        version,
        is_champion,
        tuple(p.relative_to(release).as_posix() for p in sent),
        tuple(p.relative_to(release).as_posix() for p in left_out),
    )


def verdict(decision: dict[str, Any]) -> str:
    """Return the gate's word: what the decision says, or PASS and FAIL from whether it passed."""
    word = decision.get("verdict") or decision.get("decision") or decision.get("outcome")
    if isinstance(word, str) and word:
        is_plain = word.upper() in ("PASS", "PASSED")
        if is_plain and decision.get("passed") is not True:
            return "FAIL"  # two words that disagree are no pass
        return "PASS" if is_plain else word.upper()
    return "PASS" if decision.get("passed") is True else "FAIL"


def approver(decision: dict[str, Any]) -> str:
    """Return the keys that approved, or ``none``; whether each holds is for `verify` to say."""
    given = [one["signatures"][0]["keyid"] for one in decision.get("approvals") or ()]
    return ", ".join(str(keyid)[:16] for keyid in given) or "none"


def metrics(report: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield ``task.metric``, and its ``.low``, ``.high`` and ``.n``, where they are finite."""
    for task, told in report["tasks"].items():
        for metric, estimate in told["metrics"].items():
            values = {"": "value", ".low": "low", ".high": "high", ".n": "n"}
            for suffix, key in values.items():
                value = estimate.get(key)
                if isinstance(value, int | float) and math.isfinite(value):
                    yield f"{task}.{metric}{suffix}", float(value)


def choose(release: Path, *, with_text: bool) -> tuple[list[Path], list[Path]]:
    """Return the files to send, and those that stay; neither holds weights and tokenizer."""
    sent: list[Path] = []
    left_out: list[Path] = []
    for path in sorted(p for p in release.rglob("*") if p.is_file()):
        if any(fnmatch(path.name, pattern) for pattern in _WEIGHTS):
            continue
        told = f"{path.parent.name}/{path.name}"
        is_text = any(fnmatch(path.name, p) or fnmatch(told, p) for p in WITH_TEXT)
        is_evidence = any(fnmatch(path.name, p) for p in EVIDENCE)
        is_sent = with_text if is_text else is_evidence
        (sent if is_sent else left_out).append(path)
    return sent, left_out


def _evidence(release: Path, name: str) -> dict[str, Any]:
    folders = (release, release / "evidence", release / "evidence" / "eval")
    for path in (folder / name for folder in folders):
        if path.is_file():
            found: dict[str, Any] = read_json(path)
            return found
    raise InputError(f"{release} is not a release folder: it has no {name}")


def check(uri: str) -> None:
    """Refuse what cannot be used, before anything else is done.

    Raises:
        InputError: if MLflow is not installed, or takes no data at ``uri``.
    """
    missing = [n for n in ("mlflow", "sqlalchemy", "alembic") if find_spec(n) is None]
    if missing:
        raise InputError(
            f"--mlflow needs {', '.join(missing)}, which is not installed: "
            "pip install 'mlflow-skinny>=3.17,<4' 'sqlalchemy>=2' 'alembic>=1.16'"
        )
    if "://" not in uri or uri.startswith("file:"):
        raise InputError(
            f"--mlflow {uri}: MLflow takes no new data into folders; name a database or a server, "
            "as sqlite:///mlflow.db or http://127.0.0.1:5000"
        )


def _client(uri: str) -> tuple[Any, type[Exception]]:
    """Return a client of a store, and the exception with which it refuses."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    database = _sqlite_file(uri)
    if database is not None:  # MLflow would try for minutes to open a file in no folder
        database.parent.mkdir(parents=True, exist_ok=True)
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri), MlflowException
    except MlflowException as error:
        raise InputError(f"MLflow cannot use {uri}: {error}") from None


def _log(
    client: Any,
    name: str,
    release: Path,
    record: dict[str, Any],
    report: dict[str, Any],
    tags: dict[str, str],
    sent: list[Path],
) -> str:
    """Log one run and return its id; a run that fails half-way is marked so."""
    from mlflow.entities import Metric, Param, RunTag

    experiment = client.get_experiment_by_name(name)
    number = (
        experiment.experiment_id
        if experiment
        else client.create_experiment(name, artifact_location=_artifacts(client.tracking_uri))
    )
    run = client.create_run(number, run_name=release.name)
    run_id = str(run.info.run_id)
    try:
        told = [Metric(key, value, run.info.start_time, 0) for key, value in metrics(report)]
        params = {
            "recipe": record.get("recipe"),
            "base": record.get("base", {}).get("identity"),
            "quantization": record.get("quantization"),
            "seed": record.get("seed"),
            "is_private": record.get("is_private"),
        }
        client.log_batch(
            run_id,
            metrics=told,
            params=[Param(key, str(value)) for key, value in params.items() if value is not None],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        client.log_inputs(run_id, datasets=_data_sets(record))
        for path in sent:
            folder = path.relative_to(release).parent
            client.log_artifact(run_id, str(path), None if folder == Path() else str(folder))
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id


def _artifacts(uri: str) -> str | None:
    """Return where files go: beside a database file, else where the server puts them.

    MLflow's own choice for a database file is the folder that the command happens to run in.
    """
    database = _sqlite_file(uri)
    return (database.parent / "mlartifacts").as_uri() if database else None


def _sqlite_file(uri: str) -> Path | None:
    is_file = uri.startswith("sqlite:///")
    return Path(uri.removeprefix("sqlite:///")).resolve() if is_file else None


def _data_sets(record: dict[str, Any]) -> list[Any]:
    """Return the data files by their digests; MLflow has room for the first 36 digits."""
    from mlflow.entities import Dataset, DatasetInput

    files = record.get("data", {}).get("files", {})
    return [
        DatasetInput(
            Dataset(
                name=Path(file).name,
                digest=str(digest).removeprefix("sha256:")[:_DIGEST_LENGTH],
                source_type="sha256",
                source=str(digest),
            )
        )
        for file, digest in sorted(files.items())
    ]


def _register(client: Any, name: str, release: Path, run_id: str, tags: dict[str, str]) -> str:
    """Register a version that points at the folder, and return its number."""
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(
        name, source=release.resolve().as_uri(), run_id=run_id, tags=tags
    )
    return str(version.version)
