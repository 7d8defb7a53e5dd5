"""VERIFY.md: how a stranger checks a release, with Assay and with nothing but common tools."""

from __future__ import annotations

from recipes.release.facts import Facts, SignedBy
from recipes.release.layout import ABOUT, DECISION, HASHES, MERGE, SIGNATURE
from recipes.release.markdown import joined, plain, warnings

_UNPACK = f"""\
export WORK=$(mktemp -d)
python3 - <<'END'
import base64, json, os, pathlib
work = pathlib.Path(os.environ["WORK"])
envelope = json.load(open("{SIGNATURE}"))["dsseEnvelope"]
payload = base64.b64decode(envelope["payload"])
kind = envelope["payloadType"].encode()
signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
(work / "signed").write_bytes(signed)
(work / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
predicate = json.loads(payload)["predicate"]
assert predicate["serialization"]["ignore_paths"] == ["{SIGNATURE}"], "it covers less than all"
lines = ["%s  %s" % (one["digest"], one["name"]) for one in predicate["resources"]]
(work / "files").write_text("\\n".join(lines) + "\\n")
END"""

_NOTHING_ELSE = f"""\
find . -type f ! -path ./{SIGNATURE} | sed 's|^./||' | LC_ALL=C sort > "$WORK/found"
cut -c67- "$WORK/files" | LC_ALL=C sort | diff - "$WORK/found"
test -z "$(find . ! -type f ! -type d)" && test -z "$(find . -type d -empty)\""""

_IDENTITY = """\
for name in $(ls | LC_ALL=C sort); do case "$name" in
  *.safetensors|config.json|generation_config.json|model.safetensors.index.json|\\
  tokenizer.json|tokenizer_config.json|special_tokens_map.json|tokenizer.model|\\
  vocab.json|merges.txt|added_tokens.json|chat_template.jinja)
    echo "$name $(sha256sum < "$name" | cut -d' ' -f1)";;
esac; done | sha256sum | cut -d' ' -f1"""


def write(facts: Facts) -> str:
    """Return VERIFY.md; every command in it runs as it is written, in the release's folder."""
    head = [f"# How to check {plain(facts.name)}", *warnings(facts)]
    if facts.signer is None:
        return joined([*head, *_of_itself(), *_agrees()])
    signer = facts.signer
    return joined([*head, *_whom(signer), *_with_assay(signer), *_without(signer), *_agrees()])


def _of_itself() -> list[str]:
    return [
        "There is no signature. What can be checked is that the folder agrees with its own list, "
        "which whoever changed a file could have changed too:",
        f"```sh\nsha256sum --check --quiet --strict {HASHES}\n```",
        "```sh\nassay verify .\n```",
    ]


def _whom(signer: SignedBy) -> list[str]:
    if signer.has_certificate:
        return [
            "It was signed with a key that a certificate vouches for. Have the root certificate "
            "that you trust at hand: **not from this folder or from whoever gave you this "
            "folder**, but from the authority itself. Put it beside this folder, never into it, "
            "where it would be a file too many. The certificate had to be valid when the release "
            f"says in {ABOUT} that it was made; for that time there is the signer's word alone. "
            "The commands below expect the root at `$CA`:",
            "```sh\nCA=${CA:-../ca.pem}\n```",
        ]
    return [
        "It was signed with a private key. Have the publisher's public key at hand as `key.pub`: "
        "**not from this folder or from whoever gave you this folder**, but from the publisher, by "
        "another way. Its fingerprint should be",
        f"```text\n{signer.key}\n```",
        "which `sha256sum key.pub` prints, if you have the publisher's word for that fingerprint. "
        "The commands below expect it at `$KEY`:",
        "```sh\nKEY=${KEY:-../key.pub}\n```",
    ]


def _with_assay(signer: SignedBy) -> list[str]:
    how = '--certificate-chain "$CA"' if signer.has_certificate else '--key "$KEY"'
    return [
        "## With Assay",
        f"```sh\nassay verify . {how}\n```",
        "It needs no network, no accelerator and no torch, ends with 0 if all holds, and with 5 "
        "and every difference by name if not.",
    ]


def _without(signer: SignedBy) -> list[str]:
    if signer.has_certificate:
        signed = (
            f"python3 -m model_signing verify certificate . --signature {SIGNATURE} \\\n"
            '  --certificate_chain "$CA" --no-ignore-git-paths'
        )
        return [
            "## Without Assay",
            "`pip install model-signing pyopenssl`, then (version 1.1.1 overlooks `.git` unless "
            "told not to):",
            f"```sh\n{signed}\n```",
        ]
    signed = (
        f"python3 -m model_signing verify key . --signature {SIGNATURE} \\\n"
        '  --public_key "$KEY" --no-ignore-git-paths'
    )
    hashed = "sha384" if signer.num_bits == 384 else "sha256"
    checked = f'openssl dgst -{hashed} -verify "$KEY" -signature "$WORK/signature" "$WORK/signed"'
    return [
        "## Without Assay",
        "`pip install model-signing pyopenssl`, then (version 1.1.1 overlooks `.git` unless told "
        "not to):",
        f"```sh\n{signed}\n```",
        "## With openssl and sha256sum alone",
        "The signature is one over a list of all files. Take it apart,",
        f"```sh\n{_UNPACK}\n```",
        "ask whether the key has signed the list (it must say `Verified OK`),",
        f"```sh\n{checked}\n```",
        "whether every file is as listed,",
        '```sh\nsha256sum --check --quiet --strict "$WORK/files"\n```',
        "and whether there is nothing else, also no link and no empty folder:",
        f"```sh\n{_NOTHING_ELSE}\n```",
    ]


def _agrees() -> list[str]:
    return [
        "## Is it the model that was evaluated?",
        "The decision is about one model, named by the hash of a list of its files. This prints "
        f"what you have; it must be what `target.merged` says in {DECISION}, `identity` in {MERGE} "
        f"and `model` in {ABOUT}:",
        f"```sh\n{_IDENTITY}\n```",
    ]
