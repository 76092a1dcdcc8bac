"""Keeping what others decide: scores and products, coalesced to the last word per key and batch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from services.campaigns.handlers.reading import park, plain, read_all
from services.campaigns.store import customers, facts
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.products import ProductPublished
from shared.contracts.scores import ScoresComputed
from shared.mongo import in_store
from shared.streaming.records import Batch

_scores = fast_decoder(Event[ScoresComputed], {"data"})
_product = fast_decoder(Event[ProductPublished], {"data"})
KNOWN_AT_HAND = 100_000


@dataclass(frozen=True, slots=True)
class Strangers:
    """Who is not known yet. Remembers who is: whoever it takes for known by mistake is only welcomed without scores."""

    _known: set[str] = field(default_factory=set)

    def among(self, ids: set[str]) -> set[str]:
        """Those of the ids that are no customers here."""
        if len(self._known) > KNOWN_AT_HAND:
            self._known.clear()
        self._known.update(customers.known(ids - self._known))
        return ids - self._known

    def forget(self, ids: Collection[str]) -> None:
        """These may be strangers again."""
        self._known.difference_update(ids)


async def on_scores(batch: Batch, strangers: Strangers) -> None:
    """Keep the newest scores of customers who are not known yet: they are asked for once, when their customer is first seen."""
    told, rejects = read_all(batch, _scores)
    last = {each.key: each.event for each in told}
    events = {key: event for key, event in last.items() if event is not None}
    gone = last.keys() - events.keys()
    strangers.forget(gone)
    unknown = await in_store(strangers.among, set(events))
    kept = {key: {"as_of": events[key].data.as_of, "scores": plain(events[key].data.scores)} for key in unknown}
    if kept or gone:
        await in_store(facts.save_scores, kept, gone)
    park(rejects)


async def on_products(batch: Batch) -> None:
    """Keep each product's current description."""
    told, rejects = read_all(batch, _product)
    last = {each.key: each.event for each in told}
    kept = {key: plain(event.data) for key, event in last.items() if event is not None}
    await in_store(facts.save_products, kept, last.keys() - kept.keys())
    park(rejects)
