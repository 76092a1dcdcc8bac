"""What the demo replays: people, then their purchases and coupons in order of time, as events with ids that are the same in every run."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from typing import Any

import msgspec

from shared.contracts.interactions import InteractionRecorded
from shared.contracts.purchases import PurchaseRecorded
from shared.contracts.topics import INTERACTIONS, PURCHASES
from stack.datasets import Basket, CdnowPurchase, CompleteJourney, Redemption, load_cdnow, load_complete_journey, synthetic_contact

CURRENCY = "USD"
MINOR_PER_POINT = 100


@dataclass(frozen=True, slots=True)
class Moment:
    """One event as it goes to the broker."""

    at: datetime
    topic: str
    id: str
    key: bytes
    value: bytes
    amount_minor: int = 0
    line_count: int = 0

    @property
    def is_purchase(self) -> bool:
        return self.topic == PURCHASES.name


@dataclass(frozen=True, slots=True)
class Totals:
    """What must come out, whatever happens on the way."""

    purchases: int = 0
    lines: int = 0
    customers: int = 0
    bought_minor: int = 0
    coupon_redemptions: int = 0
    ledger_sum: int = 0
    refunded_minor: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """A data set, ready to be replayed."""

    source: str
    people: tuple[dict[str, Any], ...]
    """One Segment `identify` call each; sent, and fully applied, before the first moment."""
    moments: tuple[Moment, ...]

    def expected(self) -> Totals:
        """The totals of exactly these people and moments."""
        purchases = [moment for moment in self.moments if moment.is_purchase]
        return Totals(
            purchases=len(purchases),
            lines=sum(moment.line_count for moment in purchases),
            customers=len({moment.key for moment in self.moments} | {_reference(person).encode() for person in self.people}),
            bought_minor=sum(moment.amount_minor for moment in purchases),
            coupon_redemptions=len(self.moments) - len(purchases),
            ledger_sum=sum(moment.amount_minor // MINOR_PER_POINT for moment in purchases),
        )


def complete_journey(limit: int | None = None) -> History:
    """The grocer's year: 801 households, every basket and coupon of theirs; `limit` keeps the first baskets."""
    source = "complete-journey"
    data = load_complete_journey()
    baskets = [_basket(basket, source) for basket in islice(data.baskets(), limit)]
    redemptions = [_redemption(redemption, source) for redemption in data.redemptions()]
    if limit is not None:
        redemptions = [moment for moment in redemptions if moment.at <= baskets[-1].at]
    begins_at = baskets[0].at - timedelta(days=1)
    return History(source, tuple(_people(data, begins_at)), _in_order(baskets, redemptions))


def cdnow(limit: int | None = None) -> History:
    """The CD shop's log: nobody introduces themselves, customers are known by their number alone."""
    return History("cdnow", (), tuple(_cdnow_purchase(purchase) for purchase in islice(load_cdnow(), limit)))


def _in_order(*streams: Iterable[Moment]) -> tuple[Moment, ...]:
    return tuple(heapq.merge(*streams, key=lambda moment: moment.at))


def _people(data: CompleteJourney, at: datetime) -> Iterator[dict[str, Any]]:
    for household in data.households():
        contact = synthetic_contact(household.household_id)
        traits = {name: value for name, value in household.traits.items() if value is not None}
        yield {
            "type": "identify",
            "messageId": f"household-{household.household_id}",
            "timestamp": _text(at),
            "traits": {
                **traits,
                "name": contact.name,
                "email": contact.email,
                "loyalty_card": str(household.household_id),
                "language": contact.language,
                "time_zone": contact.zone,
                "preferred_channel": contact.preferred_channel,
                "consents": [{"purpose": "marketing", "channel": "email", "granted": contact.consents_email}],
            },
        }


def _reference(person: dict[str, Any]) -> str:
    return f"loyalty_card:{person['traits']['loyalty_card']}"


def _basket(basket: Basket, source: str) -> Moment:
    reference = f"loyalty_card:{basket.household_id}"
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
    data = {"reference": reference, "store": basket.store_id, "currency": CURRENCY, "lines": lines}
    value = _event(basket.basket_id, source, PurchaseRecorded.event_type, basket.at, data)
    return Moment(basket.at, PURCHASES.name, basket.basket_id, reference.encode(), value, basket.amount_minor, len(lines))


def _redemption(redemption: Redemption, source: str) -> Moment:
    reference = f"loyalty_card:{redemption.household_id}"
    identity = (redemption.household_id, redemption.campaign_id, redemption.coupon_upc, f"{redemption.at:%Y-%m-%d}")
    event_id = "-".join(map(str, identity))
    properties = {"campaign": str(redemption.campaign_id), "coupon": redemption.coupon_upc}
    data = {"reference": reference, "kind": "CouponRedeemed", "properties": properties}
    value = _event(event_id, source, InteractionRecorded.event_type, redemption.at, data)
    return Moment(redemption.at, INTERACTIONS.name, event_id, reference.encode(), value)


def _cdnow_purchase(purchase: CdnowPurchase) -> Moment:
    reference = f"user:{purchase.customer_id}"
    at = datetime.combine(purchase.day, time(), UTC)
    lines = [{"sku": "cd", "quantity": purchase.quantity, "amount_minor": purchase.amount_minor}]
    data = {"reference": reference, "store": "cdnow", "currency": CURRENCY, "lines": lines}
    value = _event(str(purchase.row), "cdnow", PurchaseRecorded.event_type, at, data)
    return Moment(at, PURCHASES.name, str(purchase.row), reference.encode(), value, purchase.amount_minor, 1)


def _event(event_id: str, source: str, kind: str, at: datetime, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"specversion": "1.0", "id": event_id, "source": source, "type": kind, "time": _text(at), "data": data})


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
