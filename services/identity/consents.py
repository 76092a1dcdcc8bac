"""What somebody allowed and refused, told from what they stated and the texts that are registered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.identity.domain.consents import LedgerEntry, ledger, text_mark
from services.identity.domain.customers import moment
from services.identity.store import consent_texts, customers


def consent_history(members: Iterable[str]) -> list[dict[str, Any]]:
    """Every statement of these profiles, newest first, each with what it did and whether its text is known."""
    told = ledger(customers.statements_of(members))
    texts = consent_texts.hashes({each.text_version for each in told if each.text_version})
    return [_stated(each, texts) for each in reversed(told)]


def _stated(entry: LedgerEntry, texts: Mapping[str, str]) -> dict[str, Any]:
    known = texts.get(entry.text_version or "")
    proof = {name: entry.statement.get(name) for name in customers.PROOF}
    shown = {name: entry.statement[name] for name in ("purpose", "channel", "granted", "source", "event")}
    text = text_mark(entry.text_version, entry.statement.get("text_sha256"), known)
    stored = proof["text_sha256"] or known
    at = moment(entry.statement["at"]).isoformat()
    return {**shown, "at": at, "action": entry.action, **proof, "text_sha256": stored, "text": text}
