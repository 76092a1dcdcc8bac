"""What a key may open. Every route names its scope."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Scope(StrEnum):
    """`internal` and `public` are never given to a key."""

    INGEST = "ingest"
    PROFILES_READ = "profiles:read"
    PROFILES_WRITE = "profiles:write"
    REPORTS_READ = "reports:read"
    RULES_WRITE = "rules:write"
    PRIVACY = "privacy"
    KEYS = "keys"
    OPERATE = "operate"
    INTERNAL = "internal"
    PUBLIC = "public"


GRANTED: Mapping[Scope, str] = {
    Scope.INGEST: "send events",
    Scope.PROFILES_READ: "read what is known of customers: profile, history, scores, points, offers, messages",
    Scope.PROFILES_WRITE: "change what is known of customers: consents, suppressions, merges and splits",
    Scope.REPORTS_READ: "read sums and rules, which name nobody",
    Scope.RULES_WRITE: "change segments and programs",
    Scope.PRIVACY: "show, export, correct and erase a customer's data, register consent texts, read the audit log",
    Scope.KEYS: "make, list and revoke keys",
    Scope.OPERATE: "move a replay's clock",
}
"""The scopes that a key may have, and what each is for."""

AUDITED = frozenset({Scope.PROFILES_READ, Scope.PROFILES_WRITE, Scope.RULES_WRITE, Scope.PRIVACY, Scope.KEYS, Scope.INTERNAL})
"""What is done under one of these is in the audit log. What is sent under `ingest` is in the timeline, which is its own record."""

READING = frozenset({Scope.PROFILES_READ, Scope.REPORTS_READ, Scope.INTERNAL})
"""Whatever the method, nothing is changed under these."""
