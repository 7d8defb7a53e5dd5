"""The words around a match, which decide what a number is."""

from __future__ import annotations

import re
from collections.abc import Iterable

REACH = 48
"""Characters before a match that are looked at."""


def words(*parts: str) -> re.Pattern[str]:
    """Return a pattern that matches any of the given words or beginnings of words."""
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(parts)})", re.IGNORECASE)


def line_before(text: str, start: int, reach: int = REACH) -> str:
    """Return what is before a match on its line, at most ``reach`` characters.

    A short line before counts too: forms have a name above its value.
    """
    before = text[max(0, start - reach) : start]
    head, _, line = before.rpartition("\n")
    return line if line.strip() or not head else head.rpartition("\n")[2]


def last(pattern: re.Pattern[str], text: str) -> int:
    """Return where the last match of a pattern ends, or -1."""
    end = -1
    for match in pattern.finditer(text):
        end = match.end()
    return end


def has_any(text: str, hints: Iterable[str]) -> bool:
    """Return whether one of the hints is in a text: much faster than a pattern of them all."""
    for hint in hints:  # noqa: SIM110 (half the time of any(), and this is the inner loop)
        if hint in text:
            return True
    return False


NUMBERED_THING = words(
    *("order", "invoice", "ref", "ticket", "tracking", "isbn", "issn", "ean", "gtin", "sku"),
    *("article", "item", "parcel", "part", "serial", "model", "version", "customer n", "case"),
    *("customer id", "product", "batch", "lot", "amount", "total", "transaction", "document"),
    *("bestell", "auftrag", "rechnung", "artikel", "kunden", "sendung", "paket", "serien"),
    *("vorgang", "produkt", "charge", "betrag", "vertrag", "beleg", "fall", "aktenzeichen"),
    *("commande", "facture", "dossier", "colis", "suivi", "produit", "lot", "client", "série"),
    *("pedido", "factura", "referencia", "envío", "paquete", "producto", "lote", "cliente"),
    *("ordine", "fattura", "pratica", "spedizione", "pacco", "prodotto", "lotto", "codice art"),
    *("account n", "vat", "ust", "tva", "barcode", "po n", "rma", "job", "build", "commit"),
)
"""Words for numbers of things: a number right after one is no telephone number."""
