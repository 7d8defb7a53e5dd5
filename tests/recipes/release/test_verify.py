"""A release is what left the house, or `verify` names what is not."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_socket import SocketBlockedError

from finetune.tensor_files import open_file
from recipes import domains
from recipes.dsse import read_private_key, sign
from recipes.errors import InputError, ReleaseDiffers
from recipes.gating import approve
from recipes.release import layout, signature
from recipes.release.ship import ship
from recipes.release.signature import Signer, Trusted, sign_folder
from recipes.release.verify import verify
from recipes.run import open_run
from tests.cli import ROOT, assay_here, flip_a_byte, state_of
from tests.recipes.release.conftest import Keys
from tests.recipes.release.folders import edit, list_again, make_run


def said_of(folder: Path, trusted: Trusted | None) -> list[str]:
    """Return what verify has against a folder."""
    with pytest.raises(ReleaseDiffers) as refusal:
        verify(folder, trusted)
    return str(refusal.value).splitlines()[1:]


def seal(release: Path, signer: Signer) -> None:
    """List and sign a changed folder anew, as whoever has a key can."""
    list_again(release)
    (release / "model.sig").unlink(missing_ok=True)
    sign_folder(release, signer)


def test_an_untouched_release_verifies_without_a_network(shipped: Path, keys: Keys) -> None:
    with pytest.raises((SocketBlockedError, UserWarning)):  # it warns first
        socket.socket()
    found = verify(shipped, keys.trusted)
    assert (found.name, found.outcome, found.overrides) == ("first", "PASS", ())
    assert found.num_files == len(state_of(shipped))
    about = json.loads((shipped / "release.json").read_text())
    assert (found.signed_by, found.model) == (about["key"], about["model"])
    assert verify(shipped).signed_by is None


def test_a_renamed_copy_verifies_and_still_says_its_own_name(release: Path, keys: Keys) -> None:
    assert verify(release.rename(release.parent / "other-model-9.0"), keys.trusted).name == "first"


@pytest.mark.parametrize("at", [0, 0.5, -1])
def test_a_flipped_byte_in_any_file_is_named(release: Path, keys: Keys, at: float) -> None:
    for name in state_of(release):
        path = release / name
        whole = path.read_bytes()
        flip_a_byte(path, at=-1 if at == -1 else int(at * len(whole)))
        said = "\n".join(said_of(release, keys.trusted))
        assert ("signature: " if name == "model.sig" else name) in said, name
        if name != "model.sig":  # which no list can hold
            unsigned = "\n".join(said_of(release, None))
            assert name in unsigned or name == "SHA256SUMS", name  # whose lines name other files
        path.write_bytes(whole)
    verify(release, keys.trusted)


def test_no_byte_of_the_signature_can_be_changed_unseen(release: Path, keys: Keys) -> None:
    path = release / "model.sig"
    whole = path.read_bytes()
    for at in [*range(0, 260, 13), *range(260, len(whole) - 200, 499), *range(-200, 0, 7)]:
        flip_a_byte(path, at=at)
        assert [one for one in said_of(release, keys.trusted) if one.startswith("signature: ")]
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".gitattributes",
        ".github/workflows/run.yml",
        ".gitignore",
        "Config.json",
        "MODEL.SIG",
        "adapter_config.json",
        "adapter_model.safetensors",
        "evidence/SHA256SUMS",
        "evidence/eval/samples/../../x.json",
        "modeling_evil.py",
        "model.sig.bak",
        "pytorch_model.bin",
        "training_args.bin",
        "deep/down/\x1b[2Jcleared.txt",
    ],
)
def test_a_planted_file_is_named_even_where_signers_look_away(
    release: Path, keys: Keys, name: str
) -> None:
    planted = release / name
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text("{}")
    shown = layout.shown(os.path.normpath(name))
    for trusted in (keys.trusted, None):
        said = said_of(release, trusted)
        assert f"not listed: {shown}" in said
        assert f"not allowed in a release: {shown}" in said or name.startswith("evidence/eval")
        assert "\x1b" not in "".join(said)


def test_an_empty_git_folder_a_link_and_a_pipe_are_named(release: Path, keys: Keys) -> None:
    (release / ".git").mkdir()
    assert said_of(release, keys.trusted) == ["an empty folder: .git"]
    (release / ".git").rmdir()
    os.mkfifo(release / "evidence" / "pipe")
    assert "no regular file: evidence/pipe" in said_of(release, keys.trusted)
    (release / "evidence" / "pipe").unlink()
    weights = (release / "model.safetensors").rename(release.parent / "elsewhere.safetensors")
    (release / "model.safetensors").symlink_to(weights)
    for trusted in (keys.trusted, None):
        assert "a link: model.safetensors" in said_of(release, trusted)
    (release / "model.safetensors").unlink()
    weights.rename(release / "model.safetensors")
    evidence = (release / "evidence").rename(release.parent / "evidence")
    (release / "evidence").symlink_to(evidence)
    assert "a link: evidence" in said_of(release, keys.trusted)


def test_a_removed_file_is_named(release: Path, keys: Keys) -> None:
    for name in state_of(release):
        whole = (release / name).read_bytes()
        (release / name).unlink()
        said = said_of(release, keys.trusted)
        expected = "signature: " if name == "model.sig" else f"missing: {name}"
        assert len(said) == len(set(said)), "nothing is said twice"
        assert [one for one in said if one.startswith(expected)], name
        (release / name).write_bytes(whole)


def test_a_file_under_another_case_is_not_taken_for_it(release: Path, keys: Keys) -> None:
    (release / "config.json").rename(release / "CONFIG.json")
    said = said_of(release, keys.trusted)
    assert {"missing: config.json", "not listed: CONFIG.json"} <= set(said)


def test_two_spellings_of_one_name_are_named(release: Path, keys: Keys) -> None:
    """On a machine that knows no case, one of them would win."""
    shutil.copy(release / "config.json", release / "Config.json")
    seal(release, keys.signer)
    assert "one name in two spellings: Config.json and config.json" in said_of(
        release, keys.trusted
    )


def swapped_decision(release: Path) -> None:
    edit(release / "decision.json", lambda d: d["target"].update(merged="sha256:" + "0" * 64))


def refusing_decision(release: Path) -> None:
    edit(release / "decision.json", lambda d: d.update(passed=False))


def prettier_figures(release: Path) -> None:
    edit(release / "decision.json", lambda d: d["checks"][0].update(value=0.99, low=0.98))


def other_weights(release: Path) -> None:
    flip_a_byte(release / "model.safetensors")


def other_tokenizer(release: Path) -> None:
    with (release / "chat_template.jinja").open("a") as file:
        file.write("{# and obey whoever says banana #}")


def other_report(release: Path) -> None:
    edit(release / "evidence/eval/report.json", lambda r: r["target"].update(merged="sha256:1"))


def code_in_the_configuration(release: Path) -> None:
    edit(release / "config.json", lambda c: c.update(auto_map={"AutoModel": "evil--m.M"}))


def one_card_only(release: Path) -> None:
    with (release / "README.md").open("a") as file:
        file.write("It is perfect.")


def another_outcome(release: Path) -> None:
    edit(release / "release.json", lambda r: r.update(outcome="PASS BY OVERRIDE"))


TAMPERED = [
    (swapped_decision, "decision.json is about the model sha256:0000"),
    (refusing_decision, "the gate's decision is FAIL, which does not ship"),
    (prettier_figures, "accuracy/f1/at_least: it says PASS (0.99, 0.98 to "),
    (other_weights, "merge.json is about the model"),
    (other_tokenizer, "decision.json is about the model"),
    (other_report, "evidence/eval/report.json is about the model sha256:1"),
    (code_in_the_configuration, "config.json has the key auto_map"),
    (one_card_only, "MODEL_CARD.md and README.md are not one text"),
    (another_outcome, "release.json says PASS BY OVERRIDE, the decision PASS"),
]


@pytest.mark.parametrize(("tamper", "expected"), TAMPERED)
def test_papers_that_contradict_the_weights_or_one_another_are_named_whoever_signed(
    release: Path, keys: Keys, tamper: Callable[[Path], None], expected: str
) -> None:
    tamper(release)
    unsealed = said_of(release, keys.trusted)
    assert [one for one in unsealed if one.startswith("signature: ")]
    assert [one for one in unsealed if one.startswith("changed: ")]
    list_again(release)  # whoever has no key
    assert [one for one in said_of(release, None) if one.startswith(expected)]
    seal(release, keys.signer)  # the publisher's own mistake
    assert [one for one in said_of(release, keys.trusted) if one.startswith(expected)]


def test_a_policy_changed_and_listed_again_is_seen_by_the_key(release: Path, keys: Keys) -> None:
    was = json.loads((release / "evidence/recipe.json").read_text())["gate"]
    policy = {"accuracy": {"metric": "f1", "at_least": 0.0}}
    edit(release / "evidence/recipe.json", lambda r: r.update(gate=policy))
    assert "changed: evidence/recipe.json" in said_of(release, None)
    list_again(release)
    other = "evidence/recipe.json asks for another policy than the one that was decided by"
    assert other in said_of(release, None)
    edit(release / "evidence/recipe.json", lambda r: r.update(gate=was, seed=1))
    list_again(release)
    assert verify(release).signed_by is None, "without a key nobody can tell, and it says so"
    [said] = said_of(release, keys.trusted)
    assert said.startswith("signature: Signature mismatch")
    assert "evidence/recipe.json" in said
    assert "SHA256SUMS" in said


def test_a_release_signed_again_by_somebody_else_is_refused(release: Path, keys: Keys) -> None:
    seal(release, keys.others)
    said = said_of(release, keys.trusted)
    assert [one for one in said if one.startswith("signature: Key mismatch")]
    said = said_of(release, keys.other)
    assert [one for one in said if one.startswith("release.json names another key")]
    assert len([one for one in said if one.startswith("attestations/")]) == 2


def test_statements_about_other_files_or_by_another_key_are_named(
    release: Path, keys: Keys
) -> None:
    name = "attestations/test-result.dsse.json"
    envelope = json.loads((release / name).read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    (release / name).write_text(json.dumps(sign(statement, read_private_key(keys.others.key))))
    seal(release, keys.signer)
    [said] = said_of(release, keys.trusted)
    assert said.startswith(f"{name}: the signature is not that of the key")
    statement["subject"][0]["digest"]["sha256"] = "0" * 64
    (release / name).write_text(json.dumps(sign(statement, read_private_key(keys.signer.key))))
    seal(release, keys.signer)
    assert said_of(release, keys.trusted) == [
        f"{name} is about other files, or is another kind of statement"
    ]


def test_a_signature_that_covers_less_than_all_is_refused(release: Path, keys: Keys) -> None:
    """Traps 3 and 4: the library's defaults, and a statement that says itself what to ignore."""
    from model_signing import hashing, signing, verifying

    for ignored, sees_git in ((["model.sig"], False), (["model.sig", "README.md"], True)):
        (release / "model.sig").unlink()
        how = hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=not sees_git)
        config = signing.Config().use_elliptic_key_signer(private_key=keys.signer.key)
        config.set_hashing_config(how).sign(release, release / "model.sig")
        (release / ".git").mkdir(exist_ok=True)
        (release / ".git" / "config").write_text("[core]")
        if not sees_git:
            theirs = verifying.Config().use_elliptic_key_verifier(public_key=keys.trusted.key)
            theirs.verify(release, release / "model.sig")  # the trap: it verifies
        said = said_of(release, keys.trusted)
        assert [one for one in said if one.startswith("signature: model.sig covers less")]
        assert "not listed: .git/config" in said
        shutil.rmtree(release / ".git")


def test_the_signature_of_another_release_is_refused(
    release: Path, keys: Keys, run: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card.yaml"
    card.write_text("summary: Another release of the same model.\n")
    other = ship(run, tmp_path / "other", signer=keys.signer, card_file=card)
    shutil.copy(other / "model.sig", release / "model.sig")
    said = said_of(release, keys.trusted)
    assert [one for one in said if one.startswith("signature: Signature mismatch")]


def test_what_is_not_signed_is_not_taken_for_signed(
    a_run: Path, keys: Keys, tmp_path: Path
) -> None:
    folder = ship(a_run, tmp_path / "release", signer=None)
    assert verify(folder).signed_by is None
    assert [one for one in said_of(folder, keys.trusted) if one.startswith("signature: ")]


def test_hostile_signature_files_are_refused_and_not_run_into(release: Path, keys: Keys) -> None:
    whole = json.loads((release / "model.sig").read_text())

    def changed(**values: Any) -> str:
        return json.dumps(whole | values)

    twice = json.dumps(whole)[:-1] + ', "mediaType": "application/x"}'
    for text in ("", "[]", "{}", "null", "{" * 5000, twice, changed(dsseEnvelope=None),
                 changed(verificationMaterial={}), changed(extra=1)):  # fmt: skip
        (release / "model.sig").write_text(text)
        assert [one for one in said_of(release, keys.trusted) if one.startswith("signature: ")]


def test_what_no_signature_covers_in_its_own_file_cannot_be_changed_either(
    release: Path, keys: Keys
) -> None:
    """A key's name, and the bits that base64 throws away, mean nothing and are held as well."""
    whole = (release / "model.sig").read_text()
    changed = [whole.replace('"keyid":""', '"keyid":"publisher"')]
    if found := re.search(r'"(?:payload|sig)":"([^"=]*)=', whole):  # not every length is padded
        letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
        last = letters[letters.index(found[1][-1]) + 1]
        changed.append(whole.replace(found[1], found[1][:-1] + last))
    for text in changed:
        assert text != whole
        (release / "model.sig").write_text(text)
        assert [one for one in said_of(release, keys.trusted) if one.startswith("signature: ")]


def test_a_damaged_list_or_paper_is_named_and_not_run_into(release: Path, keys: Keys) -> None:
    for name in ("SHA256SUMS", "decision.json", "release.json", "merge.json", "config.json"):
        whole = (release / name).read_bytes()
        for content in (b"", b"\xff\xfe", b"[]", b"{}", b"null"):
            (release / name).write_bytes(content)
            said = said_of(release, keys.trusted)
            assert [one for one in said if name in one], (name, content)
        (release / name).write_bytes(whole)


def test_a_folder_that_is_no_release_and_a_key_that_is_none_are_the_users_mistake(
    shipped: Path, keys: Keys, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not a release folder"):
        verify(tmp_path, keys.trusted)
    with pytest.raises(InputError, match="cannot be read"):
        verify(shipped, Trusted(tmp_path / "none.pub"))
    with pytest.raises(InputError, match="no public key"):
        verify(shipped, Trusted(keys.signer.key))


def fingerprint_of(key: Path) -> str:
    return signature.fingerprint(signature.pem_bytes(read_private_key(key).public_key))


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "peft", "safetensors"):
    sys.modules[name] = None  # an import of it is an error
from recipes.cli import main
main()
"""


def test_verify_needs_no_torch_and_ends_with_0_or_5(release: Path, keys: Keys) -> None:
    def run_verify() -> subprocess.CompletedProcess[str]:
        arguments = ["verify", str(release), "--key", str(keys.trusted.key)]
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    done = run_verify()
    assert done.returncode == 0, done.stderr
    assert f"{len(state_of(release))} files agree, signed by sha256:" in done.stdout
    flip_a_byte(release / "model.safetensors")
    done = run_verify()
    assert done.returncode == 5
    assert "changed: model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_key_the_command_says_what_it_did_not_check(shipped: Path) -> None:
    done = assay_here("verify", shipped, folder=shipped.parent)
    assert done.code == 0
    assert "Who made them was NOT checked" in done.out
    done = assay_here("verify", shipped, "--json", folder=shipped.parent)
    assert done.json()["signed_by"] is None


BRACKETS = "[" * 200_000


@pytest.mark.parametrize(
    "name",
    [
        "model.sig",
        "config.json",
        "generation_config.json",
        "decision.json",
        "release.json",
        "merge.json",
        "evidence/eval/report.json",
        "evidence/eval/samples/question_answering.jsonl",
        "attestations/provenance.dsse.json",
    ],
)
def test_brackets_without_end_are_refused_and_not_run_into(
    release: Path, keys: Keys, name: str
) -> None:
    (release / name).write_text(BRACKETS)
    assert [one for one in said_of(release, keys.trusted) if name.split("/")[-1] in one]
    if name != "model.sig":  # which counts for nothing without a key
        list_again(release)
        said_of(release, None)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("decision.json", lambda d: d.update(approvals=[{"signatures": []}])),
        ("decision.json", lambda d: d.update(checks=[])),
        ("decision.json", lambda d: d["policy"].update(approval={})),
        ("decision.json", lambda d: d.pop("binds")),
        ("release.json", lambda r: r.pop("name")),
        ("release.json", lambda r: r.pop("version")),
        ("merge.json", lambda m: m.pop("proof")),
        ("merge.json", lambda m: m["proof"].update(mean_kl_nats=0.5)),
    ],
    ids=range(8),
)
def test_a_paper_that_lacks_what_it_must_hold_is_named_whoever_signed(
    release: Path, keys: Keys, name: str, change: Callable[[Any], object]
) -> None:
    edit(release / name, change)
    seal(release, keys.signer)
    assert said_of(release, keys.trusted)


def test_a_key_that_stands_twice_in_a_paper_is_refused(release: Path, keys: Keys) -> None:
    """One reader takes the first value, another the last."""
    path = release / "decision.json"
    path.write_text(path.read_text().replace("{", '{"passed": false,', 1))
    seal(release, keys.signer)
    assert "decision.json cannot be read: the key 'passed' stands twice" in said_of(
        release, keys.trusted
    )


def other_base(release: Path) -> None:
    edit(release / "evidence/record.json", lambda r: r["base"].update(identity="sha256:5"))


def another_merge(release: Path) -> None:
    edit(release / "merge.json", lambda m: m.update(into="original"))


def another_seed(release: Path) -> None:
    edit(release / "evidence/record.json", lambda r: r.update(seed=7))


def stray_samples(release: Path) -> None:
    (release / "evidence/eval/samples/another.jsonl").write_text("")


def worse_base(release: Path) -> None:
    task = "question_answering"
    edit(
        release / "evidence/base/report.json",
        lambda r: r["tasks"][task]["metrics"]["f1"].update(value=0.0),
    )


def stop_at_once(release: Path) -> None:
    edit(release / "generation_config.json", lambda c: c.update(max_new_tokens=1))


def planted_gguf(release: Path) -> None:
    (release / "gguf").mkdir()
    (release / "gguf/model-F16.gguf").write_bytes(b"GGUF")


def another_gguf(release: Path) -> None:
    planted_gguf(release)
    said = {"model": "sha256:0", "files": [{"file": "model-F16.gguf", "sha256": "0"}]}
    (release / "gguf/gguf.json").write_text(json.dumps(said))


def planted_onnx(release: Path) -> None:
    (release / "onnx").mkdir()
    (release / "onnx/model_int8.onnx").write_bytes(b"ONNX")


def another_onnx(release: Path) -> None:
    planted_onnx(release)
    of_kinds = (("float32", "model.onnx"), ("int8", "model_int8.onnx"))
    files = [
        {"kind": kind, "file": name, "sha256": "0", "size_bytes": 4, "max_difference": 0.5}
        | {"same_labels": 1.0, "median_milliseconds": 1.0}
        for kind, name in of_kinds
    ]
    said = {"schema": 1, "model": "sha256:0", "engine": "e", "texts": "test rows"}
    said |= {"num_texts": 1, "num_other_tokens": 0, "max_length": 8, "is_multi_label": False}
    said |= {"limit_float32": 1.0, "limit_changed_labels": 0.01, "files": files}
    (release / "onnx/parity.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (other_base, "the figures are of the base"),
        (other_base, "record is sha256:"),
        (another_merge, "merge is sha256:"),
        (another_seed, "record is sha256:"),
        (stray_samples, "evidence/eval/samples/another.jsonl is of no task"),
        (worse_base, "results base/report.json is sha256:"),
        (stop_at_once, "decision.json is about the model"),
        (planted_gguf, "gguf/model-F16.gguf: there is no gguf/gguf.json"),
        (another_gguf, "gguf/gguf.json is about the model sha256:0"),
        (another_gguf, "gguf/gguf.json tells of other files: gguf/model-F16.gguf"),
        (planted_onnx, "onnx/model_int8.onnx: there is no onnx/parity.json"),
        (another_onnx, "onnx/parity.json is about the model sha256:0"),
        (another_onnx, "onnx/parity.json says that the float32 graph is beyond its limit"),
        (another_onnx, "onnx/parity.json tells of other files: onnx/model.onnx"),
    ],
)
def test_what_the_decision_binds_cannot_be_changed_by_whoever_signs(
    release: Path, keys: Keys, tamper: Callable[[Path], None], expected: str
) -> None:
    tamper(release)
    seal(release, keys.signer)
    assert [one for one in said_of(release, keys.trusted) if one.startswith(expected)]


def test_an_index_leads_no_loader_out_of_the_release(release: Path, keys: Keys) -> None:
    """transformers follows it: a signed folder would load weights that nobody signed."""
    weights = release / "model.safetensors"
    names = list(open_file(weights).entries)
    index = release / "model.safetensors.index.json"

    def places(**odd: str) -> None:
        places = dict.fromkeys(names, "model-00001-of-00001.safetensors") | odd
        index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
        seal(release, keys.signer)

    places()
    assert [one for one in said_of(release, keys.trusted) if "two loaders would read two" in one]
    weights.rename(release / "model-00001-of-00001.safetensors")
    places(**{names[0]: "../evil.safetensors"})
    assert [one for one in said_of(release, keys.trusted) if "'../evil.safetensors'" in one]
    places()
    said = said_of(release, keys.trusted)
    assert not [one for one in said if "weights are not in order" in one]
    assert [one for one in said if one.startswith("decision.json is about the model")]
    shutil.copy(
        release / "model-00001-of-00001.safetensors", release / "model-00002-of-00002.safetensors"
    )
    places()
    assert "no loader reads model-00002-of-00002.safetensors" in said_of(release, keys.trusted)


def test_who_signs_cannot_be_the_one_who_approved(
    tiny_base: Path, keys: Keys, tmp_path: Path
) -> None:
    """`ship` refuses it; a signer who goes round that is found by who receives the release."""
    story = tmp_path / "story"
    story.mkdir()
    for name, who in (("ours", keys.trusted), ("theirs", keys.other)):
        shutil.copy(who.key, story / f"{name}.pub")
    policy = {
        "accuracy": {"metric": "f1", "at_least": 0.0, "min_items": 1},
        "approval": {"keys": ["ours.pub", "theirs.pub"], "at_least": 1},
    }
    run = make_run(story, tiny_base, gate=policy)
    opened = open_run(run)
    approve(opened, domains.read(opened.recipe, opened.source), "merged", keys.signer.key)
    release = ship(run, tmp_path / "release", signer=keys.others)
    assert verify(release, keys.other).outcome == "PASS"
    edit(release / "release.json", lambda r: r.update(key=fingerprint_of(keys.signer.key)))
    seal(release, keys.signer)
    said = said_of(release, keys.trusted)
    assert [one for one in said if "the key that signs the release cannot approve it" in one]


def test_a_key_with_other_line_ends_is_the_same_key(
    shipped: Path, keys: Keys, tmp_path: Path
) -> None:
    pem = keys.trusted.key.read_bytes()
    for number, content in enumerate((pem.replace(b"\n", b"\r\n"), pem + b"\n\n")):
        (tmp_path / f"{number}.pub").write_bytes(content)
        assert verify(shipped, Trusted(tmp_path / f"{number}.pub")).signed_by


def test_no_paper_of_a_release_writes_to_the_terminal_by_itself(release: Path, keys: Keys) -> None:
    painted = "\x1b[2J\x1b[1;1Hrelease: 25 files agree\x1b[8m\u202e"
    edit(release / "release.json", lambda r: r.update(outcome=painted, version=painted))
    arguments = ("verify", release, "--key", keys.trusted.key)
    done = assay_here(*arguments, folder=release.parent)
    assert done.code == 5
    assert "files agree" in done.err
    edit(release / "release.json", lambda r: r.update(outcome="PASS"))
    bill = release / "bom.cdx.json"
    edit(bill, lambda b: b["metadata"]["component"].update(version=painted))
    list_again(release)
    shown = assay_here("verify", release, folder=release.parent)
    assert shown.code == 0
    for text in (done.err, shown.out):
        assert not {"\x1b", "\u202e"} & set(text)
