"""The need segments: what each has in common, and how many are in it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter

from services.segmentation.domain.need_labels import NEED_SEGMENTS
from services.segmentation.store import models as store
from services.segmentation.store import scores
from shared.access.gate import needs as needs_scope
from shared.access.scopes import Scope
from shared.contracts.scores import NeedModelPublished
from shared.mongo import in_store


def add_needs(router: APIRouter) -> None:
    """Who needs what."""

    @router.get("/v1/needs", dependencies=[needs_scope(Scope.REPORTS_READ)])
    async def needs() -> dict[str, Any]:
        """The need segments of the newest model, largest first, with the customers that are in each now. No model, no segments."""
        summaries, kept = await in_store(scores.read_summaries), await in_store(store.newest_needs)
        as_of = scores.as_of(summaries)
        if kept is None:
            return {"model": None, "segments": [], "as_of": as_of}
        published = NeedModelPublished.model_validate_json(kept["published"])
        sizes: Counter[str] = Counter()
        for each in summaries:
            sizes.update(each["segments"])
        segments = [
            {
                "segment": (segment := NEED_SEGMENTS[each.number]),
                "number": each.number,
                "name": each.name,
                "categories": each.categories,
                "share": each.share,
                "customers": sizes[segment],
            }
            for each in sorted(published.segments, key=lambda each: (-each.share, each.number))
        ]
        model = {"version": published.version, "fitted_at": published.fitted_at, "customers": published.customers}
        return {"model": model, "segments": segments, "as_of": as_of}
