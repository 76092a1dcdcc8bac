"""Why something was not sent, or was sent the way it was: small vocabularies that are counted, stored and shown."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a message was not sent, waits, failed, or why nobody knows."""

    # The gate, in the order in which it asks.
    EXPIRED = "expired"
    UNKNOWN_CUSTOMER = "unknown_customer"
    SUPPRESSION_LIST = "suppression_list"
    NO_CONSENT = "no_consent"
    NO_ADDRESS = "no_address"
    QUIET_HOURS = "quiet_hours"
    REPEAT = "repeat"
    FREQUENCY_CAP = "frequency_cap"
    # The hand-over.
    RECIPIENT_REFUSED = "recipient_refused"
    CONTENT_REFUSED = "content_refused"
    TEMPLATE_FAILED = "template_failed"
    SERVER_AWAY = "server_away"
    TRY_LATER = "try_later"
    # Whether the mail went out, nobody can tell.
    CONNECTION_LOST = "connection_lost"
    PROCESS_DIED = "process_died"


class ChannelReason(StrEnum):
    """Why a message takes the channel it takes."""

    PREFERRED = "preferred"
    NO_PREFERENCE = "no_preference"
    PREFERRED_NOT_DELIVERABLE = "preferred_not_deliverable"
    PREFERRED_NOT_CONSENTED = "preferred_not_consented"
    PREFERRED_WITHOUT_ADDRESS = "preferred_without_address"
    UNKNOWN_CUSTOMER = "unknown_customer"
