"""People whose profiles turn out to be one customer, or not: what they do, what is asked about them, and who they are in the end."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from services.identity.domain.resolution import new_profile_id

DAYS = 300
Groups = tuple[str, ...]


@dataclass(frozen=True)
class Plot:
    """What is asked about the profiles of one person, by their letters, in this order; `"a+b"` are those of one customer in the end."""

    asked: tuple[tuple[str, str], ...]
    ends: Groups
    refused_by: str = ""
    """The rule, where an event names two in vain."""


PLOTS = {
    "alone": Plot((), ("a",)),
    "named together": Plot((("event", "ab"),), ("a+b",)),
    "asked for": Plot((("merge", "ab"),), ("a+b",)),
    "in two steps": Plot((("event", "ab"), ("merge", "bc")), ("a+b+c",)),
    "taken back": Plot((("merge", "ab"), ("split", "ab"), ("refused", "ab")), ("a", "b"), "split_before"),
    "named together by mistake": Plot((("event", "ab"), ("split", "ab")), ("a", "b")),
    "one too many": Plot((("merge", "ab"), ("event", "ac"), ("split", "ab")), ("a+c", "b")),
    "two users": Plot((("refused", "ab"),), ("a", "b"), "limit_user"),
}


@dataclass(frozen=True)
class Sale:
    """A purchase or, where the amount is below 0, money given back."""

    id: str
    reference: str
    at: datetime
    amount_minor: int

    @property
    def event(self) -> dict[str, Any]:
        """As the till writes it."""
        said: dict[str, Any] = {"reference": self.reference, "store": "main street", "currency": "USD"}
        if self.amount_minor < 0:
            return _event("PurchaseRefunded", self.id, {**said, "amount_minor": -self.amount_minor}, self.at)
        lines = [{"sku": f"sku-{self.amount_minor % 5}", "quantity": 1, "amount_minor": self.amount_minor}]
        return _event("PurchaseRecorded", self.id, {**said, "lines": lines}, self.at)


@dataclass(frozen=True)
class Customer:
    """Who somebody is in the end."""

    references: tuple[str, ...]
    """Of the profiles, the oldest first: the customer has its id."""
    sales: tuple[Sale, ...]
    twin: str

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The ids of the profiles, the oldest first."""
        return tuple(map(new_profile_id, self.references))

    @property
    def points(self) -> int:
        """One for each whole 100 of a purchase; taken back for what is given back."""
        return sum(sale.amount_minor // 100 if sale.amount_minor > 0 else -(-sale.amount_minor // 100) for sale in self.sales)

    def of_the_twin(self) -> Iterator[Sale]:
        """The same, done by somebody who had one profile all the time."""
        for sale in self.sales:
            yield Sale(f"twin of {sale.id}", self.twin, sale.at, sale.amount_minor)


@dataclass(frozen=True)
class Person:
    """Profiles, each with its sales, the first one first in time, and the plot."""

    name: str
    plot: Plot
    sales: dict[str, tuple[Sale, ...]]

    def card(self, letter: str) -> str:
        """What the profile is called."""
        return f"loyalty_card:{self.name}-{letter}"

    def profile(self, letter: str) -> str:
        """Its id."""
        return new_profile_id(self.card(letter))

    def introductions(self) -> Iterator[dict[str, Any]]:
        """Those who are two users say so."""
        if self.plot is PLOTS["two users"]:
            for letter, sales in self.sales.items():
                references = [self.card(letter), f"user:{self.name}-{letter}"]
                yield _event("CustomerIdentified", f"{self.name}-{letter} comes", {"references": references}, sales[-1].at)

    def named_together(self, letters: str) -> dict[str, Any]:
        """An event with the cards of two profiles."""
        newest = max(sales[-1].at for sales in self.sales.values())
        data = {"references": [self.card(letter) for letter in letters]}
        return _event("CustomerIdentified", f"{self.name} names {letters}", data, newest)

    def in_the_end(self) -> Iterator[Customer]:
        """The customers that these profiles are."""
        for group in self.plot.ends:
            letters = sorted(group.split("+"), key=lambda letter: self.sales[letter][0].at)
            sales = tuple(sale for letter in letters for sale in self.sales[letter])
            yield Customer(tuple(map(self.card, letters)), sales, f"loyalty_card:{self.name}-{letters[0]}-twin")


def people(times: int, until: datetime, chance: random.Random) -> list[Person]:
    """So many of each plot. No two events have the same time."""
    seconds = iter(chance.sample(range(86_400), 4_000))
    told = []
    for number in range(times):
        for place, plot in enumerate(PLOTS.values()):
            name, letters = f"p{place}{number}", sorted({letter for end in plot.ends for letter in end.split("+")})
            sales = {letter: tuple(_sales(f"{name}-{letter}", until, seconds, chance)) for letter in letters}
            told.append(Person(name, plot, sales))
    return told


def _sales(name: str, until: datetime, seconds: Iterator[int], chance: random.Random) -> Iterator[Sale]:
    days = sorted(chance.sample(range(DAYS), chance.randrange(2, 6)))
    for number, day in enumerate(days):
        at = (until - timedelta(days=DAYS + 1 - day)).replace(hour=0, minute=0, second=0, microsecond=0)
        amount = -chance.randrange(100, 300) if number and chance.random() < 0.2 else chance.randrange(300, 9_000)
        yield Sale(f"{name}-{number}", f"loyalty_card:{name}", at + timedelta(seconds=next(seconds)), amount)


def _event(kind: str, id: str, data: dict[str, Any], at: datetime) -> dict[str, Any]:
    frame = {"specversion": "1.0", "id": id, "source": "people", "type": f"dear.{kind}"}
    return {**frame, "time": at.astimezone(UTC).isoformat(), "data": data}


def keyed(event: dict[str, Any]) -> tuple[bytes, bytes]:
    """Key and value, as sources write them."""
    data: dict[str, Any] = event["data"]
    references: Sequence[str] = data.get("references") or (data["reference"],)
    return references[0].encode(), json.dumps(event).encode()
