"""The part of a refit that is about needs: fitted beside the scores, kept, and published where it puts enough customers elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Any

from services.segmentation.domain.need_fitting import NeedCandidate, need_candidate
from services.segmentation.domain.state import CustomerState
from services.segmentation.models_in_use import NEEDS_KEY, Models
from services.segmentation.need_contract import MOST_CATEGORIES, need_labels_from, published_needs
from services.segmentation.news import SOURCE
from services.segmentation.store import models as store
from shared.contracts.envelope import derived_id, envelope
from shared.contracts.scores import NeedModelPublished
from shared.contracts.topics import SCORING_MODELS, Topic
from shared.mongo import in_store
from shared.streaming.records import Message

_EPOCH = date(1970, 1, 1)

Append = Callable[[Topic, Message], Awaitable[None]]


async def refit_needs(models: Models, state: CustomerState, now: datetime, append: Append) -> dict[str, Any]:
    """One refit; the answer says what became of it, and why it came to nothing. Raises Unavailable."""
    try:
        found, published = await fit_needs(models, state, now)
    except ValueError as too_little:
        return {"accepted": False, "why": str(too_little)}
    about = {"customers": found.customers, "segments": [each.name for each in published.segments]}
    if not found.accepted:
        return {"accepted": False, "why": found.why, **about}
    first = await keep_and_publish_needs(found, published, append)
    return {"accepted": first, "why": found.why if first else "another refit was faster", **about}


async def fit_needs(models: Models, state: CustomerState, now: datetime) -> tuple[NeedCandidate, NeedModelPublished]:
    """Fit to all rows. Raises ValueError where needs cannot be told apart.

    The model in use is that of the log. Where the log was lost, numbers and names come from the one that was kept."""
    known = await in_store(store.newest_needs)
    kept = need_labels_from(NeedModelPublished.model_validate_json(known["published"])).model if known else None
    found = need_candidate(state, (now.date() - _EPOCH).days, MOST_CATEGORIES, models.needs, kept)
    version = max(known["_id"] if known else 0, models.needs.version if models.needs is not None else 0) + 1
    return found, published_needs(found.model, version, found.customers, now)


async def keep_and_publish_needs(found: NeedCandidate, published: NeedModelPublished, append: Append) -> bool:
    """Keep it, then let every worker know. False where another refit was faster.

    Whoever dies in between has kept what was to be said: the next refit, or the next owner of the fits, says it.
    """
    document = {"_id": published.version, "fitted_at": published.fitted_at, "why": found.why, "published": published.model_dump_json()}
    if not await in_store(store.keep_needs, document):
        return False
    await append(SCORING_MODELS, _message(published))
    return True


async def publish_needs_that_were_kept(kept: store.Kept, known: Models, append: Append) -> bool:
    """Let every worker know of the newest need model where that is newer than what was published. A repeat is the same event."""
    if kept.needs_version <= (known.needs.version if known.needs is not None else 0):
        return False
    await append(SCORING_MODELS, _message(NeedModelPublished.model_validate_json(kept.needs)))
    return True


def _message(published: NeedModelPublished) -> Message:
    event = envelope(published, id=derived_id("needs", published.version), source=SOURCE, time=published.fitted_at)
    return Message(NEEDS_KEY, event.model_dump_json().encode())
