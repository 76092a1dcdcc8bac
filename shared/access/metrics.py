"""Every metric of access and of the audit log."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

REFUSED = Counter("dear_access_refused_total", "Requests refused for their key, its scope or its rate.", ["reason"])
KEYS = Gauge("dear_keys", "Keys that this process knows and would accept.")
KEYS_AGE_SECONDS = Gauge("dear_keys_age_seconds", "Time since identity last said which keys there are.")
AUDITED = Counter("dear_audit_entries_total", "Entries that are in the audit log.", ["action"])
AUDIT_WAITING = Gauge("dear_audit_waiting", "Entries of reads that are not yet in the audit log.")
AUDIT_LOST = Counter("dear_audit_lost_total", "Entries of reads that a process could not write before it left.")
