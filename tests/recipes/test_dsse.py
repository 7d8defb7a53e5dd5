"""Signed statements: what was signed comes back, and nothing else does."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from recipes.dsse import SignatureDiffers, open_signed, read_private_key, read_public_key, sign
from recipes.errors import InputError


def make_key(folder: Path, name: str = "key", *, kind: str = "ec") -> tuple[Path, Path]:
    """Write a key pair; return the paths of the private and the public one."""
    key: Any = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "ec"
        else ed25519.Ed25519PrivateKey.generate()
    )
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    pkcs8 = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *pkcs8))
    private.chmod(0o600)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, spki))
    return private, public


@pytest.mark.parametrize("kind", ["ec", "ed25519"])
def test_what_was_signed_comes_back(tmp_path: Path, kind: str) -> None:
    private, public = make_key(tmp_path, kind=kind)
    envelope = json.loads(json.dumps(sign({"b": 1, "a": "ü"}, read_private_key(private))))
    assert open_signed(envelope, read_public_key(public)) == {"a": "ü", "b": 1}
    assert open_signed(envelope, read_public_key(public)), "opening leaves the envelope as it was"


def test_a_changed_byte_another_key_and_another_kind_are_refused(tmp_path: Path) -> None:
    private, public = make_key(tmp_path)
    _, other = make_key(tmp_path, "other")
    envelope = sign({"passed": False}, read_private_key(private))
    payload = base64.b64decode(envelope["payload"]).replace(b"false", b"true ")
    forged = envelope | {"payload": base64.b64encode(payload).decode()}
    for bad, key in ((forged, public), (envelope, other), ({}, public)):
        with pytest.raises(SignatureDiffers):
            open_signed(bad, read_public_key(key))
    with pytest.raises(SignatureDiffers, match="wanted"):
        open_signed(envelope, read_public_key(public), kind="text/plain")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    private, public = make_key(tmp_path)
    private.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        read_private_key(private)
    with pytest.raises(InputError, match="openssl genpkey"):
        read_private_key(tmp_path / "absent.pem")
    private.chmod(0o600)
    with pytest.raises(InputError, match="no public key"):
        read_public_key(private)
    public.chmod(0o600)
    with pytest.raises(InputError, match="no private key"):
        read_private_key(public)
