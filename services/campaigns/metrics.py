"""Every metric of campaigns."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prometheus_client import Counter, Gauge

from services.campaigns.domain.loyalty import LedgerEntry
from services.campaigns.domain.offers import Offer, Skipped

POINTS_ISSUED = Counter("dear_points_issued_total", "Points that purchases earned.")
POINTS_REVERSED = Counter("dear_points_reversed_total", "Points that refunds took back.")
POINTS_REDEEMED = Counter("dear_points_redeemed_total", "Points that customers spent.")
POINTS_EXPIRED = Counter("dear_points_expired_total", "Points that ran out.")
LEDGER_ENTRIES = Counter("dear_ledger_entries_total", "Ledger entries written.", ["kind"])
LEDGER_REPEATS = Counter("dear_ledger_repeats_total", "Entries refused because their cause had one already.")
LEDGER_SUM = Gauge("dear_ledger_sum_points", "Sum of all ledger entries.")
LIABILITY = Gauge("dear_points_liability_points", "Points that customers hold.")
LIABILITY_MINOR = Gauge("dear_points_liability_minor", "What the points that customers hold are worth, in minor units.")
DEBT = Gauge("dear_points_debt_points", "Points that refunds left customers owing.")
LEDGER_IMBALANCE = Gauge("dear_ledger_imbalance_points", "Points by which balances and their causes disagree; 0 is the only right value.")
OFFERS_DECIDED = Counter("dear_offers_decided_total", "Offers decided, held out or skipped.", ["program", "decision"])
OFFERS = Gauge("dear_offers", "Offers by where they stand.", ["program", "outcome"])
CAUGHT_UP = Counter("dear_ledger_caught_up_total", "Events that the ledger read from the timeline instead of the stream.")

_BY_KIND = {"earned": POINTS_ISSUED, "reversed": POINTS_REVERSED, "redeemed": POINTS_REDEEMED, "expired": POINTS_EXPIRED}


def count_entries(entries: Iterable[LedgerEntry], there: Collection[str]) -> None:
    """Count the entries that were not there before."""
    LEDGER_REPEATS.inc(len(there))
    for entry in entries:
        if entry.id not in there:
            LEDGER_ENTRIES.labels(entry.kind).inc()
            if entry.kind in _BY_KIND:
                _BY_KIND[entry.kind].inc(abs(entry.points))


def count_decisions(decided: Iterable[Offer], skipped: Iterable[Skipped]) -> None:
    """Count what was decided for the first time, and what was skipped."""
    for offer in decided:
        OFFERS_DECIDED.labels(offer.program, offer.status.value).inc()
    for skip in skipped:
        OFFERS_DECIDED.labels(skip.program, skip.reason.value).inc()
