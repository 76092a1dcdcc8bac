"""The names that tallies count by, and their codes."""

from __future__ import annotations

import hashlib
from functools import lru_cache

REFUNDS = "(refund)"
"""What refunds are counted as beside interactions."""
NEED, OFFER = "need:", "offer:"
"""How the names of needs that somebody stated begin, and those of programs whose offers were decided."""
STATES_NEEDS = frozenset(("NeedStated", "SurveyAnswered"))
"""Interactions whose property `need` says what somebody looks for."""
UNTRACKED = " (untracked)"
"""How the names of mails end of which nobody can tell whether they were opened: silence about them says nothing."""
EMAIL_SENT, EMAIL_OPENED, EMAIL_CLICKED, COMPLAINT = "EmailSent", "EmailOpened", "EmailClicked", "ComplaintMade"


@lru_cache(maxsize=1 << 14)
def code_of(name: str) -> int:
    """32 bits that stand for a name, the same in every process; never 0, which stands for none."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") or 1
