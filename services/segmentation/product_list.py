"""Follows products-v1, so that lines which do not say their cost or category get those of the product."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from services.segmentation.decoding import Product, Reading
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.products import ProductPublished
from shared.streaming.errors import Unavailable
from shared.streaming.records import Record

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
_PRODUCT = fast_decoder(
    Event[ProductPublished], only=("data.sku", "data.department", "data.category", "data.unit_cost_minor")
)  # fmt: skip


def take_products(records: Sequence[Record], reading: Reading) -> None:
    """Take what these records say; what cannot be read is passed over, a deleted product forgotten."""
    for record in records:
        if record.value is None:
            reading.products.pop((record.key or b"").decode(errors="replace"), None)
            continue
        try:
            said = _PRODUCT.decode(record.value).data
        except (msgspec.DecodeError, RecursionError):
            log.warning("a product at offset %d cannot be read", record.offset)
            continue
        fine, coarse = said.category, said.department
        category = (fine or coarse) if reading.by_category else (coarse or fine)
        if said.unit_cost_minor is not None or category is not None:
            reading.products[said.sku] = Product(said.unit_cost_minor, category)
        else:
            reading.products.pop(said.sku, None)


class ProductList:
    """A timer with a task beside the stream: products are reference data, so how they interleave with purchases is not fixed."""

    def __init__(self, reading: Reading, follow: Callable[[], AsyncIterator[tuple[int, Sequence[Record]]]]) -> None:
        self._reading = reading
        self._follow = follow
        self._listening: asyncio.Task[None] | None = None

    async def tick(self) -> None:
        """Go on listening. Returns at once."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        elif self._listening.done():
            self._listening.result()

    async def finish(self) -> None:
        """Stop."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                async for _, records in self._follow():
                    take_products(records, self._reading)
            except Unavailable as away:
                log.warning("products are not heard of: %s", away)
            await asyncio.sleep(RETRY_SECONDS)
