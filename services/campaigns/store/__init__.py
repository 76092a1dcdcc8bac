"""What campaigns keeps in its own database."""

from __future__ import annotations

from services.campaigns.store import customers, ledger, offers

DATABASE = "campaigns"


def prepare() -> None:
    """Make the indexes; safe to repeat and to run in several processes."""
    for module in (customers, ledger, offers):
        module.ensure_indexes()
