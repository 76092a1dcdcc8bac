"""Keeping what others decide: scores and products, coalesced to the last word per key and batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

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


async def on_scores(batch: Batch) -> None:
    """Keep the newest scores of customers who are not known yet: they are asked for once, when their customer is first seen."""
    told, rejects = read_all(batch, _scores)
    last = {each.key: each.event for each in told}
    kept = {key: {"as_of": event.data.as_of, "scores": plain(event.data.scores)} for key, event in last.items() if event is not None}
    await in_store(_save_scores, kept, last.keys() - kept.keys())
    park(rejects)


def _save_scores(told: Mapping[str, dict[str, Any]], gone: Collection[str]) -> None:
    known = customers.known(told.keys())
    facts.save_scores({customer: scores for customer, scores in told.items() if customer not in known}, gone)


async def on_products(batch: Batch) -> None:
    """Keep each product's current description."""
    told, rejects = read_all(batch, _product)
    last = {each.key: each.event for each in told}
    kept = {key: plain(event.data) for key, event in last.items() if event is not None}
    await in_store(facts.save_products, kept, last.keys() - kept.keys())
    park(rejects)
