"""What leaves is what passed, is all there, says who stands for it, and quotes nobody."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from huggingface_hub import ModelCard

from eval import harness
from eval.policy import GatePolicy, Rule
from eval.stats import paired_difference
from privacy.errors import LedgerError
from privacy.ledger import verify as verify_ledger
from privacy.report import PrivacyReport
from recipes import config, domains, empirical
from recipes.dsse import open_signed, read_public_key
from recipes.errors import DecisionVoid, GateRefused, InputError, ReleaseDiffers, RunDiffers
from recipes.files import write_json
from recipes.gating import Plea, override
from recipes.release import bill_of_materials, layout, model_card, signature
from recipes.release.ship import ship, texts_of
from recipes.release.signature import Signer, Trusted
from recipes.release.verify import verify
from recipes.run import open_run
from tests.cli import assay_here, flip_a_byte, state_of
from tests.recipes.release.conftest import Keys
from tests.recipes.release.folders import CANARY, edit, make_run, write_decision
from tests.recipes.test_dsse import make_key
from tests.recipes.test_empirical import DESIGN, found, scored

PAPERS = ("MODEL_CARD.md", "README.md", "VERIFY.md", "PRIVACY.md", "TECHNICAL_DOCUMENTATION.md")


def text_of(release: Path, name: str) -> str:
    return (release / name).read_text(encoding="utf-8")


def json_of(release: Path, name: str) -> Any:
    return json.loads(text_of(release, name))


@contextmanager
def edited(path: Path, change: Callable[[Any], object]) -> Iterator[None]:
    whole = path.read_bytes()
    edit(path, change)
    try:
        yield
    finally:
        path.write_bytes(whole)


def first_lines(release: Path, name: str) -> str:
    """Return what a paper says under its title, before anything else."""
    body = text_of(release, name).rpartition("---\n")[2] if "---" in text_of(release, name) else ""
    text = body if name in ("README.md", "MODEL_CARD.md") else text_of(release, name)
    return text.partition("\n# " if text.startswith("\n") else "# ")[2].split("\n\n")[1]


def check_nothing_left(folder: Path) -> None:
    assert not [p.name for p in folder.iterdir() if "release" in p.name]


def test_a_release_holds_what_was_promised_and_nothing_else(shipped: Path) -> None:
    files = set(state_of(shipped))
    samples = {f"evidence/eval/samples/{task}.jsonl" for task in ["question_answering"]}
    model = {"model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    others = {"chat_template.jinja", "generation_config.json"}
    signed = {layout.SIGNATURE, layout.PROVENANCE, layout.TEST_RESULT}
    assert files == {*layout.REQUIRED, *samples, *model, *others, *signed}
    assert {p.stat().st_mode & 0o777 for p in shipped.rglob("*") if p.is_file()} == {0o644}
    assert not [p for p in shipped.rglob("*") if p.is_symlink()]
    assert [p.name for p in shipped.parent.iterdir()] == ["release"]


def test_no_words_of_the_data_and_no_path_of_the_machine_leave(
    shipped: Path, a_run: Path, tiny_base: Path, keys: Keys
) -> None:
    assert CANARY in text_of(a_run, "eval/merged/samples/question_answering.jsonl")
    words = [CANARY, "Kanari", str(a_run.parent), str(tiny_base), str(keys.signer.key)]
    for name in state_of(shipped):
        content = (shipped / name).read_bytes()
        for encoded in re.findall(rb'"payload": ?"([^"]+)"', content):
            content += base64.b64decode(encoded)
        for word in words:
            assert word.encode() not in content, (name, word)


def test_the_key_is_never_copied(shipped: Path, keys: Keys) -> None:
    secret = keys.signer.key.read_text().splitlines()[1].encode()
    assert not [p for p in shipped.rglob("*") if p.is_file() and secret in p.read_bytes()]


def test_a_row_quoted_a_path_or_a_token_in_a_paper_stop_the_release(
    run: Path, keys: Keys, tmp_path: Path
) -> None:
    out = tmp_path / "release"
    for words, what in (
        ("see /home/anna/models for more", "somebody's folder"),
        (f"see {run}/merged", "a path of this machine"),
        ("ask with hf_" + "a" * 34, "a token of the Hub"),
        ("-----BEGIN PRIVATE KEY-----", "a private key"),
        (f"made for {CANARY}", "words of a row of the data"),
    ):
        (tmp_path / "card.yaml").write_text(json.dumps({"summary": words}))
        with pytest.raises(ReleaseDiffers) as refusal:
            ship(run, out, signer=keys.signer, card_file=tmp_path / "card.yaml")
        assert f"MODEL_CARD.md: {what}" in str(refusal.value)
        assert words not in str(refusal.value), "a refusal quotes nothing"
        check_nothing_left(tmp_path)


def test_without_a_key_nothing_is_shipped_unless_asked_for(run: Path, tmp_path: Path) -> None:
    done = assay_here("ship", run, "-o", "release", folder=tmp_path)
    assert (done.code, "--unsigned" in done.said) == (2, True)
    key, _ = make_key(tmp_path)
    done = assay_here("ship", run, "-o", "release", "--key", key, "--unsigned", folder=tmp_path)
    assert done.code == 2
    check_nothing_left(tmp_path)
    done = assay_here("ship", run, "-o", "release", "--unsigned", folder=tmp_path)
    assert done.code == 0, done.err
    release = tmp_path / "release"
    for name in PAPERS:
        assert first_lines(release, name).startswith("> **NOT SIGNED.**"), name
    assert "NOT SIGNED" in text_of(release, "report.html").partition("Verdict")[0]
    assert not (release / "model.sig").exists()
    assert not (release / "attestations").exists()
    assert json_of(release, "release.json")["is_signed"] is False


def test_keys_that_do_not_fit_are_refused_with_the_way_out(
    run: Path, keys: Keys, tmp_path: Path
) -> None:
    out = tmp_path / "release"
    readable, _ = make_key(tmp_path, "readable")
    readable.chmod(0o644)
    edwards, _ = make_key(tmp_path, "edwards", kind="ed25519")
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    rivest = tmp_path / "rsa.pem"
    rivest.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    rivest.chmod(0o600)
    for key, words in (
        (readable, "chmod 600"),
        (edwards, "P-256 or P-384"),
        (rivest, "P-256 or P-384"),
        (tmp_path / "none.pem", "openssl genpkey"),
    ):
        with pytest.raises(InputError, match=words):
            ship(run, out, signer=Signer(key))
        check_nothing_left(tmp_path)
    assert "PRIVATE" in keys.signer.key.read_text()


def test_what_did_not_pass_or_is_another_model_does_not_leave(
    run: Path, keys: Keys, tmp_path: Path
) -> None:
    out = tmp_path / "release"

    def refused(kind: type[Exception], words: str) -> None:
        with pytest.raises(kind, match=words):
            ship(run, out, signer=keys.signer)
        check_nothing_left(tmp_path)

    write_decision(run, lambda d: d.update(passed=False))
    refused(GateRefused, "has not passed")
    write_decision(run, lambda d: d.update(outcome="UNDECIDED"))
    refused(GateRefused, "UNDECIDED")
    write_decision(run, lambda d: d["target"].update(kind="adapter"))
    refused(GateRefused, "has not passed")
    write_decision(run, lambda d: d.pop("checks"))
    refused(InputError, "is damaged: it lacks .checks.")
    write_decision(run, lambda d: d["target"].update(merged="sha256:0"))
    refused(ReleaseDiffers, "the decision is about sha256:0")
    write_decision(run)
    edit(run / "eval/merged/report.json", lambda r: r["target"].update(merged="sha256:1"))
    refused(ReleaseDiffers, "the figures are about sha256:1")
    edit(run / "eval/merged/report.json", lambda r: r["target"].update(
        merged=json.loads((run / "decision.json").read_text())["target"]["merged"]))  # fmt: skip
    flip_a_byte(run / "merged" / "model.safetensors")
    refused(ReleaseDiffers, "the decision is about")


FLOOR = {"accuracy": {"metric": "f1", "at_least": 0.9, "overridable": True}}


def test_a_refusal_that_was_edited_into_a_pass_does_not_leave(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "story", tiny_base, gate=FLOOR)
    assert json_of(run, "decision.json")["outcome"] == "FAIL"

    def passed(decision: Any) -> None:
        decision.update(outcome="PASS", passed=True)
        decision["checks"][0].update(outcome="PASS", passed=True)

    def invented(decision: Any) -> None:
        passed(decision)
        decision["checks"][0].update(name="policy/all", rule="all is well", bound=None)

    for change, words in (
        (passed, r"accuracy/f1/at_least: it says PASS .* make FAIL"),
        (invented, "it lacks the check accuracy/f1/at_least of its policy"),
    ):
        write_decision(run, change)
        with pytest.raises(DecisionVoid, match=words):
            ship(run, tmp_path / "release", signer=keys.signer)
    check_nothing_left(tmp_path)


def test_a_difference_that_was_edited_does_not_leave(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    """No report holds it, so it is computed again."""
    rule = {"metric": "f1", "better_than_base_by": 0.0, "min_items": 5}
    run = make_run(tmp_path / "story", tiny_base, gate={"accuracy": rule})

    def better(decision: Any) -> None:
        decision.update(outcome="PASS", passed=True)
        decision["checks"][0].update(outcome="PASS", passed=True, low=0.1, value=0.2, high=0.3)

    write_decision(run, better)
    with pytest.raises(DecisionVoid, match=r"not the one that its results make \(other outcome"):
        ship(run, tmp_path / "release", signer=keys.signer)


def test_an_override_that_nobody_stands_for_counts_for_nothing(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "story", tiny_base, gate=FLOOR)
    binds = json_of(run, "decision.json")["binds"]
    nobody = {
        "rule": "accuracy/f1/at_least",
        "by": "",
        "reason": "",
        "ticket": "",
        "expires": "9999-12-31",
        "given": "",
        "candidate": binds["candidate"],
        "policy": binds["policy"],
    }
    write_json(run / "eval" / "merged" / "overrides.json", [nobody])
    with pytest.raises(InputError, match=r"counts for nothing \(--by: wanted printable text"):
        write_decision(run)
    (run / "eval" / "merged" / "overrides.json").unlink()

    def opened(decision: Any) -> None:
        decision.update(outcome="PASS BY OVERRIDE", passed=True, overrides=[nobody])

    write_decision(run, opened)
    with pytest.raises(DecisionVoid, match="override of accuracy/f1/at_least counts for nothing"):
        ship(run, tmp_path / "release", signer=keys.signer)


def test_figures_of_another_base_are_not_the_runs(tiny_base: Path, tmp_path: Path) -> None:
    other = "sha256:" + "1" * 64
    run = make_run(tmp_path / "story", tiny_base, gate={**FLOOR, "equal": {"base": other}})
    edit(run / "eval/merged/report.json", lambda r: r["target"].update(base=other))
    with pytest.raises(RunDiffers, match=r"base: eval/merged/report\.json says sha256:1111"):
        write_decision(run)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("decision.json", "{}"),
        ("merged/merge.json", "[]"),
        ("merged/merge.json", "{}"),
        ("merged/config.json", "[]"),
        ("record.json", '{"source": "."}'),
        ("data.json", "{}"),
        ("eval/merged/report.json", "{}"),
        ("merged/model.safetensors", ""),
    ],
    ids=range(8),
)
def test_a_damaged_file_of_a_run_is_told_and_no_crash(
    run: Path, keys: Keys, tmp_path: Path, name: str, text: str
) -> None:
    (run / name).write_text(text)
    with pytest.raises((InputError, DecisionVoid, ReleaseDiffers)):
        ship(run, tmp_path / "release", signer=keys.signer)
    check_nothing_left(tmp_path)


def test_a_card_that_is_not_there_is_called_a_card(run: Path, keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no card file .*nothing\.yaml"):
        ship(run, tmp_path / "r", signer=keys.signer, card_file=tmp_path / "nothing.yaml")


def write_empirical(run: Path) -> empirical.CanaryAudit:
    """Write an audit that refutes the epsilon of a run."""
    spent = verify_ledger(run / "ledger.jsonl").epsilon_spent
    audit = empirical.canary_audit(DESIGN, scored(lift=9.0), spent, 1e-5)
    result = replace(found(audit, spent), run=str(run), name="first")
    write_json(run / empirical.RESULT, result.to_json())
    return audit


def test_a_refuted_claim_of_privacy_passes_no_gate(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    gate = {"privacy": {"epsilon_at_most": 8.0}}
    run = make_run(tmp_path / "story", tiny_base, is_private=True, noise=4.0, gate=gate)
    assert json_of(run, "decision.json")["outcome"] == "PASS"
    write_empirical(run)
    with pytest.raises(DecisionVoid, match="empirical is sha256"):
        ship(run, tmp_path / "release", signer=keys.signer)
    write_decision(run)
    [check] = [c for c in json_of(run, "decision.json")["checks"] if c["family"] == "privacy"]
    assert (check["outcome"], "refuted" in check["reason"]) == ("FAIL", True)


def test_files_that_run_code_do_not_leave(run: Path, keys: Keys, tmp_path: Path) -> None:
    for name in ("modeling_evil.py", "pytorch_model.bin"):
        (run / "merged" / name).write_text("evil")
    out = ship(run, tmp_path / "release", signer=keys.signer)
    assert not {"modeling_evil.py", "pytorch_model.bin"} & set(state_of(out))
    (run / "merged" / "adapter_model.safetensors").write_text("evil")  # another model, then
    with pytest.raises(DecisionVoid, match="was evaluated"):
        ship(run, tmp_path / "another", signer=keys.signer)


def test_a_configuration_that_fetches_code_stops_the_release(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    edit(base / "config.json", lambda c: c.update(auto_map={"AutoModel": "evil--m.Model"}))
    run = make_run(tmp_path / "story", base)
    with pytest.raises(ReleaseDiffers, match=r"config\.json has the key auto_map"):
        ship(run, tmp_path / "release", signer=keys.signer)
    check_nothing_left(tmp_path)


def test_rows_that_changed_since_stop_the_release(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "story", tiny_base)
    rows = tmp_path / "story" / "rows.jsonl"
    rows.write_text(rows.read_text().replace("euros", "francs"))
    with pytest.raises(InputError, match="the rows have changed"):
        ship(run, tmp_path / "release", signer=keys.signer)


def test_a_failure_half_way_leaves_nothing(
    run: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(signature, "sign_folder", fail)
    with pytest.raises(OSError, match="No space"):
        ship(run, tmp_path / "release", signer=keys.signer)
    check_nothing_left(tmp_path)
    (tmp_path / "release").mkdir()
    with pytest.raises(InputError, match="exists already"):
        ship(run, tmp_path / "release", signer=keys.signer)


def test_a_copy_that_goes_wrong_is_found_before_it_leaves(
    run: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.copyfile

    def torn(source: Path, target: Path) -> None:
        real(source, target)
        if target.name == "model.safetensors":
            flip_a_byte(target)

    monkeypatch.setattr(shutil, "copyfile", torn)
    with pytest.raises(ReleaseDiffers, match=r"changed: model\.safetensors"):
        ship(run, tmp_path / "release", signer=keys.signer)


PLEA = Plea(
    rule="accuracy/f1/at_least",
    by="Berta Beispiel",
    reason="the customer has accepted it in writing",
    ticket="REL-42",
    expires="2199-01-31",
)


def test_an_override_stands_first_in_every_paper(run: Path, keys: Keys, tmp_path: Path) -> None:
    recipe = config.load(run / "resolved.yaml")
    strict = Rule(metric="f1", at_least=0.99, min_items=1, overridable=True)
    recipe = recipe.model_copy(update={"gate": GatePolicy(accuracy=strict)})
    (run / "resolved.yaml").write_text(config.dump(recipe))
    opened = open_run(run)
    override(opened, domains.read(opened.recipe, opened.source), "merged", PLEA)
    out = ship(run, tmp_path / "release", signer=keys.signer)
    for name in PAPERS:
        said = first_lines(out, name)
        assert said.startswith("> **PASS BY OVERRIDE.** Berta Beispiel"), name
        assert {"REL-42", "2199-01-31"} <= set(re.findall(r"[\w-]+", said)), name
    page = text_of(out, "report.html")
    assert 0 < page.find("Berta Beispiel") < page.find("h-verdict")
    [first, *_] = json_of(out, "bom.cdx.json")["metadata"]["properties"]
    assert "Berta Beispiel" in first["value"]
    statement = open_signed(json_of(out, layout.TEST_RESULT), read_public_key(_public(keys)))
    assert statement["predicate"]["result"] == "WARNED"
    assert statement["predicate"]["warnedTests"] == ["f1 at least 0.99"]
    assert verify(out, keys.trusted).outcome == "PASS BY OVERRIDE"
    done = assay_here("verify", out, folder=tmp_path)
    assert done.out.startswith("  Berta Beispiel has overridden")


def _public(keys: Keys) -> Path:
    assert keys.trusted.key is not None
    return keys.trusted.key


def test_what_nobody_has_said_is_marked_and_what_was_said_is_there(
    run: Path, shipped: Path, keys: Keys, tmp_path: Path
) -> None:
    empty = text_of(shipped, "README.md")
    assert empty.count("**TO BE COMPLETED**") == 14
    assert "Whatever shows in fewer than one in" in empty
    gaps = re.search(r"\*\*(\d+) of (\d+) entries are not filled in", text_of(
        shipped, "TECHNICAL_DOCUMENTATION.md"))  # fmt: skip
    assert gaps is not None
    card = {
        "version": "1.2.0",
        "owner": "Beispiel | Söhne <AG>",
        "licence": "apache-2.0",
        "language": "en, de",
        "intended_use": "answers to staff, by `section`",
        "data_rights": "works agreement of May",
        "base_training_flops": 1e22,
    }
    (tmp_path / "card.yaml").write_text(json.dumps({"card": card}))
    out = ship(run, tmp_path / "release", signer=keys.signer, card_file=tmp_path / "card.yaml")
    full = text_of(out, "README.md")
    assert full == text_of(out, "MODEL_CARD.md")
    assert full.count("**TO BE COMPLETED**") == 14 - 5
    assert r"Beispiel \| Söhne &lt;AG&gt;" in full
    assert "of the base's own training (yardstick: one third)" in text_of(
        out, "TECHNICAL_DOCUMENTATION.md"
    )
    assert "works agreement of May" in text_of(out, "PRIVACY.md")
    assert json_of(out, "release.json")["version"] == "1.2.0"
    assert verify(out, keys.trusted).version == "1.2.0"
    data = ModelCard(full).data
    assert (data.license, data.language) == ("apache-2.0", ["en", "de"])
    bill = json_of(out, "bom.cdx.json")["metadata"]["component"]
    assert bill["supplier"] == {"name": "Beispiel | Söhne <AG>"}


def test_no_paper_claims_to_comply(shipped: Path) -> None:
    for name in (*PAPERS, "report.html", "bom.cdx.json"):
        assert not re.search(r"\bcompl(y|ies|iant|iance)\b", text_of(shipped, name), re.I), name
    sections = re.findall(r"^## (\d)\. ", text_of(shipped, "TECHNICAL_DOCUMENTATION.md"), re.M)
    assert sections == list("123456789")


def test_the_card_gives_the_hub_every_figure_with_its_interval(shipped: Path) -> None:
    data = ModelCard(text_of(shipped, "README.md")).data
    figures = json_of(shipped, layout.REPORT)["tasks"]["question_answering"]["metrics"]
    defined = {name: one for name, one in figures.items() if one["value"] is not None}
    assert [one.metric_type for one in data.eval_results] == list(defined)
    for result, one in zip(data.eval_results, defined.values(), strict=True):
        low, high = f"{one['low']:.3f}", f"{one['high']:.3f}"
        assert result.metric_value == f"{one['value']:.3f} [{low}, {high}] (n={one['n']})"
    assert data.base_model is None, "a folder of the same name on the Hub is another model"


def test_the_bill_names_data_and_figures_by_digest_and_interval(shipped: Path, a_run: Path) -> None:
    text = text_of(shipped, "bom.cdx.json")
    assert bill_of_materials.violations(text) == []
    bill = json.loads(text)
    card = bill["metadata"]["component"]["modelCard"]
    report = json_of(shipped, layout.REPORT)
    figures = report["tasks"]["question_answering"]["metrics"]
    for one in card["quantitativeAnalysis"]["performanceMetrics"]:
        if one["value"] != "undefined":
            interval = one["confidenceInterval"]
            seen = [one["value"], interval["lowerBound"], interval["upperBound"]]
            figure = figures[one["type"]]
            assert [float(x) for x in seen] == [figure[k] for k in ("value", "low", "high")]
    by_ref = {one["bom-ref"]: one for one in bill["components"]}
    refs = [one["ref"] for one in card["modelParameters"]["datasets"]]
    record = json.loads((a_run / "record.json").read_text())
    digests = {d.removeprefix("sha256:") for d in record["data"]["files"].values()}
    assert digests <= {by_ref[ref]["hashes"][0]["content"] for ref in refs}
    hashes = {
        one["name"]: one["hashes"][0]["content"]
        for one in bill["metadata"]["component"]["components"]
    }
    assert hashes["model.safetensors"] == state_of(shipped)["model.safetensors"]


def test_a_bill_outside_the_schema_does_not_leave(
    run: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bill_of_materials.bill
    monkeypatch.setattr(bill_of_materials, "bill", lambda facts: real(facts) | {"unknown": 1})
    with pytest.raises(bill_of_materials.BillRefused, match="unknown"):
        ship(run, tmp_path / "release", signer=keys.signer)
    check_nothing_left(tmp_path)


def test_the_statements_are_about_the_files_and_the_run(shipped: Path, keys: Keys) -> None:
    key = read_public_key(_public(keys))
    hashes = state_of(shipped)
    made = open_signed(json_of(shipped, layout.PROVENANCE), key)
    tested = open_signed(json_of(shipped, layout.TEST_RESULT), key)
    for statement in (made, tested):
        for subject in statement["subject"]:
            assert subject["digest"]["sha256"] == hashes[subject["name"]]
        assert "model.safetensors" in {one["name"] for one in statement["subject"]}
    built = made["predicate"]["buildDefinition"]
    assert made["predicateType"] == "https://slsa.dev/provenance/v1"
    recipe = built["externalParameters"]["recipe"]
    assert recipe["digest"]["sha256"] == hashes["evidence/recipe.json"]
    assert [one["name"] for one in built["resolvedDependencies"]][2:] == ["rows.jsonl"]
    assert tested["predicate"]["result"] == "PASSED"
    assert tested["predicate"]["passedTests"] == ["f1 at least 0"]


def test_a_later_model_can_be_paired_with_the_release_by_its_scores(
    shipped: Path, a_run: Path
) -> None:
    kept = harness.read_samples(shipped / "evidence" / "eval", "question_answering")
    whole = harness.read_samples(a_run / "eval" / "merged", "question_answering")
    assert [one.scores for one in kept] == [one.scores for one in whole]
    assert harness.read_report(shipped / "evidence" / "eval") == harness.read_report(
        a_run / "eval" / "merged"
    )
    recipe = config.load(a_run / "resolved.yaml")
    [task] = domains.read(recipe, a_run.parents[1]).tasks
    assert paired_difference(task.metrics[0], kept, kept).value == 0


def test_the_released_report_shows_the_model_that_leaves_without_an_example(
    shipped: Path,
) -> None:
    page = text_of(shipped, "report.html")
    assert "merged model" in page
    assert "Examples are left out of a released report" in page
    assert 'class="fold examples"' not in page


def commands_of(release: Path) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", text_of(release, "VERIFY.md"), re.S)


def follow(release: Path, **variables: Path | None) -> tuple[int, str]:
    """Run the commands of VERIFY.md as they are written, one after another, until one fails."""
    here = Path(sys.executable).parent
    script = "\n".join(["set -e", *commands_of(release)])
    script = script.replace("python3 ", f"{sys.executable} ")
    script = script.replace("assay verify", f"{here / 'assay'} verify")
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=release,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).parents[3]),
            **{name: str(path) for name, path in variables.items()},
        },
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_stranger_can_follow_the_instructions_to_the_letter(release: Path, keys: Keys) -> None:
    commands = commands_of(release)
    assert len(commands) == 8
    code, out = follow(release, KEY=_public(keys))
    assert code == 0, out
    assert "Verified OK" in out
    assert out.splitlines()[-1] == json_of(release, "release.json")["model"].removeprefix("sha256:")
    without = [one for one in commands if "assay" not in one and "model_signing" not in one]
    (release / "VERIFY.md").write_text("".join(f"```sh\n{one}```\n" for one in without))
    code, out = follow(release, KEY=_public(keys))
    assert (code, "VERIFY.md: FAILED" in out) == (1, True), out
    code, out = follow(release, KEY=keys.other.key)
    assert (code, "Verification failure" in out) == (1, True), out


@pytest.mark.slow
def test_a_private_run_ships_its_statement_and_verify_holds_it_to_its_account(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "story", tiny_base, is_private=True)
    out = ship(run, tmp_path / "release", signer=keys.signer)
    said = json_of(out, "evidence/privacy.json")
    PrivacyReport.model_validate_json((out / "evidence/privacy.json").read_bytes())
    assert said["target"] == "release"
    assert said["unit"]["unit"]["value"] == "example"
    assert 0 < said["epsilon"]["pld"]["value"] <= 8
    assert said["trained"]["adapter"]["source"] == "evidence/recipe.json: adapter"
    assert "<h1" in text_of(out, "evidence/privacy.html")
    page = text_of(out, "PRIVACY.md")
    for field in (
        *("epsilon", "delta", "unit of privacy", "neighbouring relation", "trust model"),
        *("mechanism", "sample rate", "clipping norm", "Hazards", "does not cover"),
    ):
        assert field in page, field
    assert "tokens are not counted in a private run" in text_of(out, "TECHNICAL_DOCUMENTATION.md")
    verify(out, keys.trusted)
    for change, words in (
        (lambda s: s["epsilon"]["pld"].update(value=1.0), "states epsilon 1"),
        (lambda s: s["epsilon"]["delta"].update(value=1e-9), "states epsilon"),
        (lambda s: s["unit"]["unit"].update(value="customer"), "states epsilon"),
        (lambda s: s["steps"]["charged"].update(value=1), "states epsilon"),
    ):
        with (
            edited(out / "evidence/privacy.json", change),
            pytest.raises(ReleaseDiffers, match=words),
        ):
            verify(out)
    with (
        edited(out / "evidence/record.json", lambda s: s.update(is_private=False)),
        pytest.raises(ReleaseDiffers, match="disagree on whether the run was private"),
    ):
        verify(out)
    ledger = (out / "evidence/ledger.jsonl").read_text().splitlines(keepends=True)
    (out / "evidence/ledger.jsonl").write_text("".join(ledger[:-1]))
    with pytest.raises(ReleaseDiffers, match=f"for {len(ledger) - 2} steps"):
        verify(out)


def test_a_cut_ledger_passes_no_gate_and_ships_nothing(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "story", tiny_base, is_private=True)
    ledger = run / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:2]))
    with pytest.raises(LedgerError, match=r"charges steps up to 1, and record\.json says that 3"):
        write_decision(run)
    with pytest.raises(LedgerError, match="bring the run's own ledger back"):
        ship(run, tmp_path / "release", signer=keys.signer)
    check_nothing_left(tmp_path)
    done = assay_here("audit", run, "-o", "report", folder=tmp_path)
    assert done.code == 5
    assert not (tmp_path / "report").exists()
    assert "differentially private" not in done.said


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_torn_adapter_is_a_line_of_the_audit_and_no_crash(
    tiny_base: Path, tmp_path: Path, name: str
) -> None:
    run = make_run(tmp_path / "story", tiny_base, is_private=True)
    (run / "adapter").mkdir(exist_ok=True)
    (run / "adapter" / name).write_bytes(b"")
    done = assay_here("audit", run, "--json", folder=tmp_path)
    assert done.code == 0, done.err
    assert f"{name} cannot be read" in done.out


@pytest.mark.slow
def test_what_canaries_told_leaves_with_a_private_run_and_what_its_rows_told_stays(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "story", tiny_base, is_private=True, noise=4.0)
    audit = write_empirical(run)
    write_decision(run)
    out = ship(run, tmp_path / "release", signer=keys.signer)
    kept = json_of(out, "evidence/empirical.json")
    assert kept["canaries"]["one_run"]["epsilon_lower"] == audit.one_run.epsilon_lower
    assert not {"rows", "run", "in_words"} & kept.keys(), "about private rows, and this machine"
    said = json_of(out, "evidence/privacy.json")
    assert said["canary_audit"]["epsilon_lower"] == {
        "value": audit.one_run.epsilon_lower,
        "source": "evidence/empirical.json: canaries.one_run.epsilon_lower",
    }
    assert said["canary_audit"]["verdict"]["value"] == "refuted"
    assert "outside the guarantee" in said["membership"]["auc"]["missing"]
    page = text_of(out, "PRIVACY.md")
    assert page.index("THE PRIVACY CLAIM IS REFUTED") < page.index("## The guarantee")
    assert "guessed right" in page.partition("## How it was tested")[2]
    verify(out, keys.trusted)


def certificates(
    folder: Path, key: Path, *, usage: str = "", is_authority: bool = False, year: int = 2026
) -> tuple[Path, Path]:
    """Make a root and a certificate of the key by it; return the leaf and the root."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

    root_key = ec.generate_private_key(ec.SECP256R1())
    leaf_key: Any = serialization.load_pem_private_key(key.read_bytes(), None)
    paths = []
    for name, public, is_root in (("leaf", leaf_key, False), ("root", root_key, True)):
        start = datetime.datetime(2020 if is_root else year, 1, 1, tzinfo=datetime.UTC)
        days = 9000 if is_root else 365 * 3
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("root"))
            .public_key(public.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=days))
            .add_extension(
                x509.BasicConstraints(ca=is_root or is_authority, path_length=None), critical=True
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_root,
                    key_cert_sign=is_root,
                    crl_sign=is_root,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if usage and not is_root:
            uses = x509.ExtendedKeyUsage([getattr(x509.ExtendedKeyUsageOID, usage)])
            builder = builder.add_extension(uses, critical=False)
        certificate = builder.sign(root_key, hashes.SHA256())
        path = folder / f"{name}.crt"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths.append(path)
    return paths[0], paths[1]


def test_a_certificate_chain_signs_and_only_its_own_root_is_trusted(
    run: Path, keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    leaf, root = certificates(tmp_path / "a", keys.signer.key)
    _, stranger = certificates(tmp_path / "b", keys.signer.key)
    out = tmp_path / "release"
    arguments = ["--key", keys.signer.key, "--certificate", leaf, "--certificate-chain", root]
    done = assay_here("ship", run, "-o", out, *arguments, folder=tmp_path)
    assert done.code == 0, done.err
    done = assay_here("verify", out, "--certificate-chain", root, folder=tmp_path)
    assert done.code == 0, done.err
    assert "files agree, signed by sha256:" in done.out
    assert "(CN=leaf)" in done.out
    done = assay_here("verify", out, "--certificate-chain", stranger, folder=tmp_path)
    assert (done.code, "signature: " in done.said) == (5, True)
    flip_a_byte(out / "config.json")
    done = assay_here("verify", out, "--certificate-chain", root, folder=tmp_path)
    assert (done.code, "changed: config.json" in done.said) == (5, True)
    not_its_own = Signer(keys.others.key, leaf, (root,))
    with pytest.raises(InputError, match="does not match"):
        ship(run, tmp_path / "other", signer=not_its_own)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"usage": "SERVER_AUTH"}, "it is not for signing code"),
        ({"is_authority": True}, "it is the certificate of an authority"),
        ({"year": 2021}, "it is valid from 2021-01-01 to 2024-01-01"),
        ({"year": 2041}, "it is valid from 2041-01-01 to"),
        ({"usage": "CODE_SIGNING"}, ""),
    ],
    ids=range(5),
)
def test_not_every_certificate_under_a_root_may_sign(
    run: Path,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    words: str,
) -> None:
    leaf, root = certificates(tmp_path, keys.signer.key, **options)
    signer, trusted = Signer(keys.signer.key, leaf, (root,)), Trusted(roots=(root,))
    if not words:
        assert verify(ship(run, tmp_path / "r", signer=signer), trusted).subject == "CN=leaf"
        return
    with pytest.raises(InputError, match=f"may not sign a release: {words}"):
        ship(run, tmp_path / "release", signer=signer)
    with monkeypatch.context() as patch:  # a signer who looks away
        patch.setattr(signature, "unfit", lambda *_: None)
        release = ship(run, tmp_path / "release", signer=signer)
    with pytest.raises(ReleaseDiffers, match=f"may not sign a release: {words}"):
        verify(release, trusted)


def test_a_root_that_is_none_is_the_users_mistake(
    shipped: Path, tmp_path: Path, keys: Keys
) -> None:
    (tmp_path / "none.pem").write_text("-----BEGIN NOTHING-----")
    for name, words in (("none.pem", "holds no certificate"), ("absent.pem", "cannot be read")):
        done = assay_here("verify", shipped, "--certificate-chain", name, folder=tmp_path)
        assert (done.code, words in done.said) == (2, True), done.said
    both = ["--key", keys.trusted.key, "--certificate-chain", "none.pem"]
    assert assay_here("verify", shipped, *both, folder=tmp_path).code == 2


@pytest.mark.slow
def test_a_stranger_who_trusts_an_authority_can_follow_the_instructions_too(
    run: Path, keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    leaf, root = certificates(tmp_path / "a", keys.signer.key)
    _, stranger = certificates(tmp_path / "b", keys.signer.key)
    out = ship(run, tmp_path / "out" / "release", signer=Signer(keys.signer.key, leaf, (root,)))
    assert len(commands_of(out)) == 4
    code, said = follow(out, CA=root)
    assert code == 0, said
    assert said.splitlines()[-1] == json_of(out, "release.json")["model"].removeprefix("sha256:")
    shutil.copy(root, out.parent / "ca.pem")
    assert follow(out)[0] == 0, "beside the folder it is found without a word"
    code, said = follow(out, CA=stranger)
    assert (code, "signature: " in said) == (5, True), said
    instructions = text_of(out, "VERIFY.md")
    without = [one for one in commands_of(out) if "assay" not in one]
    (out / "VERIFY.md").write_text("".join(f"```sh\n{one}```\n" for one in without))
    assert follow(out, CA=root)[0] == 1, "model_signing sees that VERIFY.md was changed"
    (out / "VERIFY.md").write_text(instructions)
    assert follow(out, CA=root)[0] == 0


def test_every_text_of_a_row_is_looked_for(a_run: Path) -> None:
    recipe = config.load(a_run / "resolved.yaml")
    domain = domains.read(recipe, a_run.parents[1])
    texts = list(texts_of(domain))
    for row in domain.parts.test:
        assert {row.item.context, row.item.question, *row.item.answers} <= set(texts)


def test_the_card_asks_for_every_field_that_only_people_know() -> None:
    from recipes.card import CardConfig

    on_the_card = {key for _, key in (*model_card.OWNERS_WORDS, *model_card.DATA_WORDS)}
    elsewhere = {"version", "summary", "base_training_flops"}
    assert on_the_card | elsewhere == set(CardConfig.model_fields)
