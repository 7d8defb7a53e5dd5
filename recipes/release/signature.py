"""The OpenSSF model signature over a release folder: made and checked by `model_signing`.

The library is sound and its defaults are not (1.1.1, each point measured): it overlooks planted
`.git` paths on both sides; the signed statement carries a list of paths to ignore which the
verifier obeys; unsigned files can be waved through; the folder's name is not bound; and nothing
holds the signature file itself to one form. So both sides hash every file but the signature itself,
a statement that says anything else is refused before its signature is looked at, and the release's
name and version stand in a signed file.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securesystemslib.signer import SSlibKey

from recipes.dsse import IN_TOTO, SignatureDiffers, pem_of
from recipes.errors import InputError
from recipes.files import sha256_text
from recipes.release.layout import ABOUT, SIGNATURE

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PREDICATE = "https://model_signing/signature/v1.0"
_SERIALIZATION = {
    "method": "files",
    "hash_type": "sha256",
    "allow_symlinks": False,
    "ignore_paths": [SIGNATURE],
}


@dataclass(frozen=True)
class Signer:
    """Who signs: a private key, with a certificate and its chain where there is one."""

    key: Path
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Trusted:
    """What a stranger trusts: a public key, or the certificates that a chain must end in."""

    key: Path | None = None
    roots: tuple[Path, ...] = ()


def sign_folder(folder: Path, signer: Signer) -> None:
    """Write the signature over every file of a folder into it.

    Raises:
        InputError: if the key is of a kind that the form does not know, or the certificate is not
            the key's.
    """
    from model_signing import signing

    config = signing.Config()
    try:
        if signer.certificate is None:
            config.use_elliptic_key_signer(private_key=signer.key)
        else:
            config.use_certificate_signer(
                private_key=signer.key,
                signing_certificate=signer.certificate,
                certificate_chain=list(signer.chain),
            )
    except (ValueError, OSError, AttributeError) as error:
        raise InputError(f"a release cannot be signed with {signer.key.name}: {error}") from None
    config.set_hashing_config(_hashing()).sign(folder.resolve(), folder.resolve() / SIGNATURE)


def check_folder(folder: Path, trusted: Trusted) -> dict[str, str]:
    """Return the hex SHA-256 of every signed file, after signature and files were checked.

    Raises:
        SignatureDiffers: if the signature is not by what is trusted, is over other files, or
            promises less than all of them.
    """
    from model_signing import verifying

    hashes = signed_hashes(folder / SIGNATURE, with_chain=trusted.key is None)
    config = verifying.Config().set_hashing_config(_hashing())
    try:
        if trusted.key is not None:
            config.use_elliptic_key_verifier(public_key=trusted.key)
        else:
            config.use_certificate_verifier(certificate_chain=list(trusted.roots))
        config.verify(folder.resolve(), folder.resolve() / SIGNATURE)
    # a hostile bundle makes the parsers below raise whatever they like; all of it is a difference
    except Exception as error:
        raise SignatureDiffers(_reason(error)) from None
    if trusted.key is None and (why := unfit(leaf_of(folder / SIGNATURE), _created(folder))):
        raise SignatureDiffers(f"the certificate may not sign a release: {why}")
    return hashes


def _created(folder: Path) -> datetime:
    """Return when a release says that it was made: its signer's word, where nobody stamped it."""
    try:
        created = datetime.fromisoformat(json.loads((folder / ABOUT).read_bytes())["created"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise SignatureDiffers(f"{ABOUT} does not say when it was made: {error!r}") from None
    return created if created.tzinfo else created.replace(tzinfo=UTC)


def signed_hashes(path: Path, *, with_chain: bool) -> dict[str, str]:
    """Return what a signature file says of each file, before anyone vouches for it.

    Args:
        path: of the signature.
        with_chain: whether it must carry certificates; else it must name a public key.

    Raises:
        SignatureDiffers: if it is not in the one form that `sign_folder` writes.
    """
    try:
        bundle = json.loads(path.read_bytes(), object_pairs_hook=_each_key_once)
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True)
        statement = json.loads(payload, object_pairs_hook=_each_key_once)
        predicate = statement["predicate"]
        hashes = {one["name"]: one["digest"] for one in predicate["resources"]}
        is_ours = (
            bundle == _in_one_form(bundle, payload, with_chain=with_chain)
            and statement["_type"] == "https://in-toto.io/Statement/v1"
            and statement["predicateType"] == _PREDICATE
            and all(one["algorithm"] == "sha256" for one in predicate["resources"])
            and len(hashes) == len(predicate["resources"])
        )
    # RecursionError: brackets without end
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise SignatureDiffers(f"{SIGNATURE} is no model signature: {error!r}") from None
    if not is_ours:
        raise SignatureDiffers(
            f"{SIGNATURE} is not in the form in which a release is signed"
            + (" (with a certificate)" if with_chain else " (with a key)")
        )
    if predicate["serialization"] != _SERIALIZATION:
        raise SignatureDiffers(
            f"{SIGNATURE} covers less than every file: it was made with "
            f"{json.dumps(predicate['serialization'], sort_keys=True)[:300]}"
        )
    return hashes


def leaf_of(path: Path) -> Certificate:
    """Return the certificate, of whoever signed, that a signature carries.

    Raises:
        SignatureDiffers: if it carries none.
    """
    from cryptography import x509

    try:
        chain = json.loads(path.read_bytes())["verificationMaterial"]["x509CertificateChain"]
        raw = base64.b64decode(chain["certificates"][0]["rawBytes"])
        return x509.load_der_x509_certificate(raw)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise SignatureDiffers(f"{SIGNATURE} carries no certificate: {error!r}") from None


def leaf_key(path: Path) -> bytes:
    """Return the public key, in PEM, of the certificate that a signature carries.

    Raises:
        SignatureDiffers: if it carries none.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = leaf_of(path).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_certificates(path: Path) -> list[Certificate]:
    """Read a file of certificates in PEM.

    Raises:
        InputError: if there is none in it.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise InputError(f"the certificate {path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path} holds no certificate in PEM: {error}") from None


def unfit(leaf: Certificate, at: datetime) -> str | None:
    """Say why a certificate may not sign a release at a time; None if it may.

    The library asks none of this: a web server's certificate, an expired one and that of an
    authority all sign for it. One without an extended key usage may be used for anything (RFC 5280,
    section 4.2.1.12).
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

    def extension(kind: Any) -> Any:
        try:
            return leaf.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    uses, is_for = extension(x509.ExtendedKeyUsage), extension(x509.KeyUsage)
    constraints = extension(x509.BasicConstraints)
    if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
        return (
            f"it is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to "
            f"{leaf.not_valid_after_utc:%Y-%m-%d}, and the release is of {at:%Y-%m-%d}"
        )
    if constraints is not None and constraints.ca:
        return "it is the certificate of an authority, which signs certificates and no releases"
    if uses is not None and not {Usage.CODE_SIGNING, Usage.ANY_EXTENDED_KEY_USAGE} & set(uses):
        return "it is not for signing code (extended key usage), but for something else"
    if is_for is not None and not is_for.digital_signature:
        return "it is not for signatures (key usage)"
    return None


def pem_bytes(key: SSlibKey) -> bytes:
    """Return a public key as openssl writes it, however the file that it was read from did."""
    return pem_of(key).rstrip("\n").encode() + b"\n"


def fingerprint(pem: bytes) -> str:
    """Return ``sha256:...`` of a public key as openssl writes it, which `sha256sum` gives too."""
    return "sha256:" + sha256_text(pem.decode("ascii"))


def _hashing() -> Any:
    from model_signing import hashing

    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _in_one_form(bundle: Any, payload: bytes, *, with_chain: bool) -> dict[str, Any]:
    """Write a bundle again from what of it counts, so that no other byte can be changed unseen."""
    material = bundle["verificationMaterial"]
    [signature] = bundle["dsseEnvelope"]["signatures"]
    names: dict[str, Any]
    if with_chain:
        chain: Sequence[Any] = material["x509CertificateChain"]["certificates"]
        names = {"x509CertificateChain": {"certificates": [_again(one) for one in chain]}}
    else:
        names = {"publicKey": {"hint": material["publicKey"]["hint"]}}
    return {
        "mediaType": _BUNDLE,
        "verificationMaterial": {**names, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": _encoded_again(signature["sig"]), "keyid": ""}],
        },
    }


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that says two things under one key, as two readers would read two."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice")
    return values


def _again(certificate: Any) -> dict[str, str]:
    return {"rawBytes": _encoded_again(certificate["rawBytes"])}


def _encoded_again(text: str) -> str:
    return base64.b64encode(base64.b64decode(text, validate=True)).decode()


def _reason(error: Exception) -> str:
    from cryptography.exceptions import InvalidSignature

    if isinstance(error, InvalidSignature):
        return "the signature is not by the key that was given"
    told = " ".join(str(error).split())
    # a name each, without the two digests as Python writes bytes
    if changed := re.findall(r"Hash mismatch for \\?'([^'\\]*)", told):
        return f"Signature mismatch: {', '.join(changed)}"
    return told or type(error).__name__
