"""What a finished model is handed over with: to servers, other file formats, registries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recipes.handover.gguf import Kind


def hand_over(
    folder: Path,
    *,
    smoke: bool = False,
    gguf: Sequence[Kind] = (),
    onnx: bool = False,
    evaluated: EvaluatedTexts | None = None,
    name: str = "model",
) -> dict[str, Any]:
    """Complete a model folder for those who will serve it, before it is listed and signed.

    Writes ``SERVING.md`` and ``evidence/serving.json`` always, ``gguf/`` where kinds are named,
    ``onnx/`` and ``evidence/smoke.json`` where they are asked for.

    Args:
        folder: config, safetensors, tokenizer; of a merged model, or of a release in the making.
        smoke: serve the folder, and hold the answers against our engine.
        gguf: kinds of GGUF files to make.
        onnx: export a classifier on an encoder as ONNX graphs.
        evaluated: texts on which the graphs are measured; without, sample texts.
        name: of the model, as those files say it.

    Returns:
        What was found, as JSON values: ``serving``, and ``gguf``, ``onnx`` and ``smoke`` where
        asked.

    Raises:
        recipes.errors.InputError: if the model cannot be had in that form, with the reason.
        finetune.errors.IntegrityError: if served or converted it answers otherwise.
    """
    from recipes.files import write_json, write_text
    from recipes.handover import finding, servability

    done: dict[str, Any] = {}
    if gguf:
        from recipes.handover import conversion

        done["gguf"] = conversion.convert(folder, gguf, name=name)
    if onnx:
        from recipes.handover import onnx_export

        rows = evaluated or EvaluatedTexts()
        record = onnx_export.convert(folder, texts=rows.texts, max_length=rows.max_length)
        done["onnx"] = record.model_dump(mode="json", by_alias=True)
    if smoke:
        from recipes.handover import smoke as smoking

        done["smoke"] = {"schema": 1} | asdict(smoking.smoke(folder))
        if onnx:
            done["smoke"]["onnx"] = asdict(smoking.smoke_onnx(folder))
        write_json(folder / "evidence" / "smoke.json", done["smoke"])
    findings, warning = servability.check(folder), servability.warning(folder)
    done["serving"] = finding.to_json(findings, warning)
    write_json(folder / "evidence" / "serving.json", done["serving"])
    write_text(folder / "SERVING.md", finding.to_markdown(findings, warning))
    return done


@dataclass(frozen=True)
class EvaluatedTexts:
    """What a classifier was evaluated on, for measurements that need texts; never written."""

    texts: tuple[str, ...] = ()
    """Of the test rows; none for other recipes."""

    max_length: int | None = None
    """Tokens at which a text was cut."""


@dataclass
class Extras:
    """What `assay ship` was asked for beside the release: first all of the folder, then MLflow."""

    smoke: bool
    gguf: tuple[Kind, ...]
    mlflow: str | None
    onnx: bool = False
    done: dict[str, Any] = field(default_factory=dict)

    def refuse_what_cannot_be(self, merged: Path) -> None:
        """Refuse, before anything is written, what a merged model cannot be exported as.

        Raises:
            recipes.errors.InputError: with the reason and the way out.
        """
        if self.onnx and (merged / "config.json").is_file():
            from recipes.handover import onnx_export

            onnx_export.check(merged)

    def complete(self, folder: Path, name: str, evaluated: EvaluatedTexts) -> None:
        """Call `hand_over` on a release in the making."""
        self.done = hand_over(
            folder,
            smoke=self.smoke,
            gguf=self.gguf,
            onnx=self.onnx,
            evaluated=evaluated,
            name=name,
        )

    def mirror(self, release: Path) -> dict[str, Any]:
        """Mirror a finished release where asked, and return all that was done."""
        if self.mlflow is not None:
            from recipes.handover import registry

            self.done["mlflow"] = asdict(registry.mirror(release, self.mlflow))
        return self.done


def read_options(
    *, smoke: bool, gguf: Sequence[str], mlflow: str | None, onnx: bool = False
) -> Extras:
    """Return what was asked for, if it can be had here at all.

    Raises:
        recipes.errors.InputError: if a kind of GGUF is unknown, MLflow cannot be used, or the
            packages for ONNX are not installed.
    """
    kinds: tuple[Kind, ...] = ()
    if gguf:
        from recipes.errors import InputError
        from recipes.handover.gguf import KINDS

        unknown = [kind for kind in gguf if kind not in KINDS]
        if unknown:
            raise InputError(
                f"--gguf {unknown[0]}: known are {' and '.join(KINDS)}; a lower precision is "
                "another model: make it with llama-quantize and have it evaluated by itself"
            )
        kinds = tuple(kind for kind in KINDS if kind in gguf)
    if mlflow is not None:
        from recipes.handover import registry

        registry.check(mlflow)
    if onnx:
        from recipes.handover import onnx_packages

        onnx_packages.refuse_missing()
    return Extras(smoke, kinds, mlflow, onnx)


def lines(done: dict[str, Any]) -> list[str]:
    """Return what was done beside the release, a line each."""
    found = []
    for file in done.get("gguf", {}).get("files", ()):
        told = file["parity"]
        found.append(
            f"{file['file']}: mean KL {told['mean_kl_nats']:.1e} nats from the folder, same first "
            f"choice at {told['top1_agreement']:.1%} of {told['num_positions']} positions "
            f"({told['engine']})"
        )
    reason = done.get("gguf", {}).get("modelfile", {}).get("reason")
    if reason:
        found.append(f"no Modelfile: {reason}")
    if "onnx" in done:
        found += _onnx_lines(done["onnx"])
    for told in (done.get("smoke"), done.get("smoke", {}).get("onnx")):
        if told is not None:
            found.append(
                f"{told['engine']}: {told['num_requests']} answers as evaluated ({told['asked']})"
            )
    if "mlflow" in done:
        told = done["mlflow"]
        alias = ", now champion" if told["is_champion"] else ""
        found.append(f"MLflow: {told['model']} version {told['version']}{alias}")
    return found


def _onnx_lines(values: dict[str, Any]) -> list[str]:
    from recipes.handover.onnx_record import OnnxRecord

    record = OnnxRecord.model_validate(values)
    found = [
        f"onnx/{one.file}: {one.size_bytes / 1e6:,.1f} MB, probabilities within "
        f"{one.max_difference:.1e}, same labels for {one.same_labels:.2%} of {record.num_texts:,} "
        f"{record.texts}, {one.median_milliseconds:.1f} ms a text ({record.engine})"
        for one in record.files
    ]
    warning = record.warning()
    return [*found, *([warning] if warning else [])]
