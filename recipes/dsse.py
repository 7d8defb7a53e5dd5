"""Signed statements: JSON in a DSSE envelope, by a key that a stranger can check.

An approval, a test result and a provenance statement are each one JSON value with one signature
over its exact bytes (Dead Simple Signing Envelope 1.0.2, github.com/secure-systems-lab/dsse). The
key is an EC P-256, Ed25519 or RSA private key in PEM (PKCS#8), read where it lies and never copied.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from securesystemslib import exceptions
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from recipes.errors import InputError

IN_TOTO = "application/vnd.in-toto+json"
"""Payload type of an in-toto statement."""


class SignatureDiffers(Exception):
    """A signature is not one of the key that was expected over these bytes. Exit code 5."""


def read_private_key(path: Path) -> CryptoSigner:
    """Read a private key in PEM (PKCS#8, without a password).

    Raises:
        InputError: if there is none, it cannot be read, or others on this machine may read it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    make = (
        f"make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {path}"
    )
    try:
        mode, pem = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the private key {path} cannot be read ({error.strerror}); {make}"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            f"the private key {path} can be read by others (mode {mode & 0o777:04o}); "
            f"take that back with: chmod 600 {path}"
        )
    try:
        return CryptoSigner(load_pem_private_key(pem, None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{path} is no private key in PEM (PKCS#8) without a password: {error}; {make}"
        ) from None


def read_public_key(path: Path) -> SSlibKey:
    """Read a public key in PEM.

    Raises:
        InputError: if there is none, or it cannot be read.
    """
    try:
        return parse_public_key(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"the public key {path} cannot be read ({error.strerror})") from None


def parse_public_key(pem: bytes, source: object) -> SSlibKey:
    """Return the public key in a PEM text; ``source`` says in an error where it is from.

    Raises:
        InputError: if it is none.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{source} is no public key in PEM: {error}; take it from the private one with: "
            f"openssl pkey -in KEY -pubout -out {source}"
        ) from None


def pem_of(key: SSlibKey) -> str:
    """Return a public key as PEM text."""
    return str(key.keyval["public"])


def sign(values: Mapping[str, Any], signer: CryptoSigner, *, kind: str = IN_TOTO) -> dict[str, Any]:
    """Return a DSSE envelope, as JSON values, over ``values`` in canonical form."""
    payload = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    envelope = Envelope(payload.encode(), kind, {})
    envelope.sign(signer)
    signed: dict[str, Any] = envelope.to_dict()
    return signed


def open_signed(
    envelope: Mapping[str, Any], key: SSlibKey, *, kind: str = IN_TOTO
) -> dict[str, Any]:
    """Return what an envelope says, after its signature was checked against ``key``.

    Raises:
        SignatureDiffers: if the envelope is malformed, of another kind, not signed by this key, or
            signed over other bytes.
    """
    try:
        # from_dict rewrites what it is given
        opened = Envelope.from_dict(json.loads(json.dumps(dict(envelope))))
        if opened.payload_type != kind:
            raise SignatureDiffers(f"it is a {opened.payload_type!r}, wanted a {kind!r}")
        opened.verify([key], threshold=1)
        said = json.loads(opened.payload)
    except (exceptions.VerificationError, ValueError, KeyError, TypeError) as error:
        raise SignatureDiffers(
            f"the signature is not that of the key {key.keyid[:16]}: {error}"
        ) from None
    if not isinstance(said, dict):
        raise SignatureDiffers("what was signed is no JSON object")
    return said
