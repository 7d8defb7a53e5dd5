"""The kinds of personal data and secrets that are searched for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A kind of personal data or secret, as it is named under `data.personal_data`.

    Where two kinds claim the same text, the one that is listed first has it.
    """

    PRIVATE_KEY = "private_key"
    """A private key in PEM or PuTTY form."""

    URL_CREDENTIALS = "url_credentials"
    """A URL that holds a user and a password."""

    ACCESS_TOKEN = "access_token"  # noqa: S105 (a name)
    """A JSON web token or a bearer token."""

    API_KEY = "api_key"
    """A key of a cloud service, or a random string after words such as `api key`."""

    EMAIL = "email"
    IBAN = "iban"
    """An international bank account number, by its check digits."""

    PAYMENT_CARD = "payment_card"
    """A card number, by issuer range and check digit."""

    IMEI = "imei"
    """The number of a mobile telephone, by context and check digit."""

    NATIONAL_ID = "national_id"
    """A personal, social security or tax number that a state gives to a person."""

    PHONE = "phone"
    """A telephone number, by the numbering plan of its country."""

    MAC_ADDRESS = "mac_address"
    IP_ADDRESS = "ip_address"
    DATE_OF_BIRTH = "date_of_birth"
    """A date after words such as `born on`."""

    STREET_ADDRESS = "street_address"
    """A street with a house number, with postcode and town where they follow."""

    PASSWORD = "password"  # noqa: S105 (a name)
    """What follows words such as `password:`."""

    PERSON_NAME = "person_name"
    """A name after words such as `my name is`; anywhere, where a model for names is installed."""


ALL = frozenset(Kind)

PLACEHOLDER = re.compile(r"<(?:" + "|".join(kind.upper() for kind in Kind) + r")_[1-9]\d*>")
"""What redaction puts in the place of personal data."""


def placeholder(kind: Kind, number: int) -> str:
    """Return the text that stands for the ``number``-th distinct value of a kind.

    Example:
        >>> placeholder(Kind.EMAIL, 3)
        '<EMAIL_3>'
    """
    return f"<{kind.upper()}_{number}>"


@dataclass(frozen=True, slots=True)
class Span:
    """Where personal data is in a text: characters ``start`` to ``end``, without the last."""

    start: int
    end: int
    kind: Kind
