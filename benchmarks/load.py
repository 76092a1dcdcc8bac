"""The events that the benchmarks run on: real contract envelopes, as identity publishes them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

from shared.contracts.envelope import derived_id
from shared.contracts.topics import CUSTOMER_EVENTS
from shared.kafka_admin import sender
from shared.streaming.partitions import partition_for
from shared.streaming.records import Position, origin_header
from stack.datasets import load_complete_journey

START = datetime(2017, 1, 1, tzinfo=UTC)


class Load(NamedTuple):
    """What was written."""

    events: int
    bytes: int
    customers: int


def one_line_purchases(count: int, customers: int) -> Iterator[tuple[str, bytes]]:
    """(profile id, event) pairs: one line each, over a year.

    Few customers buy most, as in real shops, and far from all of them come.
    """
    pick = random.Random(20170101)
    profiles = [derived_id("profile", f"loyalty_card:{number}") for number in range(customers)]
    for number in range(count):
        customer = min(int(pick.paretovariate(1.2)) * pick.randrange(1, 50), customers - 1)
        at = START + timedelta(seconds=365 * 86_400 * number / count)
        line = {"sku": str(pick.randrange(10**6, 10**7)), "quantity": 1 + number % 3, "amount_minor": pick.randrange(50, 5_000)}
        yield (
            profiles[customer],
            _event(f"receipt-{number:09d}", customer, at, [{**line, "department": "GROCERY", "category": "SOFT DRINKS"}]),
        )


def baskets(count: int) -> Iterator[tuple[str, bytes]]:
    """(profile id, event) pairs of the Complete Journey's real baskets, ten lines each on average."""
    for basket in islice(load_complete_journey().baskets(), count):
        lines = [
            {
                "sku": line.sku,
                "quantity": line.quantity,
                "amount_minor": line.amount_minor,
                "department": line.department,
                "category": line.category,
            }
            for line in basket.lines
        ]
        yield derived_id("profile", f"loyalty_card:{basket.household_id}"), _event(basket.basket_id, basket.household_id, basket.at, lines)


def _event(event_id: str, customer: int, at: datetime, lines: list[dict[str, object]]) -> bytes:
    data = {"reference": f"loyalty_card:{customer}", "store": "till-0313/lane-04", "currency": "USD", "lines": lines}
    return json.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "urn:dear:shop:0313:till:04",
            "type": "dear.PurchaseRecorded",
            "time": at.isoformat().replace("+00:00", "Z"),
            "data": data,
        },
        separators=(",", ":"),
    ).encode()


def fill(bootstrap: str, events: Iterator[tuple[str, bytes]]) -> Load:
    """Write the events to customer-events-v1 with origins, as identity would."""
    count = size = 0
    customers = set()
    with sender(bootstrap) as send:
        for profile, event in events:
            key = profile.encode()
            origin = Position("AAAAAAAAAAAAAAAAAAAAAA", partition_for(key), count)
            send.send(CUSTOMER_EVENTS.name, key, event, headers=[origin_header(origin, int(START.timestamp() * 1000))])
            count, size = count + 1, size + len(event)
            customers.add(profile)
        send.flush(120)
    return Load(count, size, len(customers))
