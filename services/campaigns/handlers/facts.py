"""Keeping what others decide: scores and products, coalesced to the last word per key and batch."""

from __future__ import annotations

from services.campaigns.handlers.reading import park, plain, read_all
from services.campaigns.store import facts
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.products import ProductPublished
from shared.contracts.scores import ScoresComputed
from shared.mongo import in_store
from shared.streaming.records import Batch

_scores = fast_decoder(Event[ScoresComputed], {"data"})
_product = fast_decoder(Event[ProductPublished], {"data"})


async def on_scores(batch: Batch) -> None:
    """Keep each customer's newest scores."""
    told, rejects = read_all(batch, _scores)
    last = {each.key: each.event for each in told}
    kept = {key: {"as_of": event.data.as_of, "scores": plain(event.data.scores)} for key, event in last.items() if event is not None}
    await in_store(facts.save_scores, kept, last.keys() - kept.keys())
    park(rejects)


async def on_products(batch: Batch) -> None:
    """Keep each product's current description."""
    told, rejects = read_all(batch, _product)
    last = {each.key: each.event for each in told}
    kept = {key: plain(event.data) for key, event in last.items() if event is not None}
    await in_store(facts.save_products, kept, last.keys() - kept.keys())
    park(rejects)
