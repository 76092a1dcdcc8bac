"""Reads the shipped demo data: a year of groceries (Complete Journey) and a CD shop's log (CDNOW)."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Choice = TypeVar("Choice")
Integers = NDArray[np.int64]
Channel = Literal["email", "line", "sms", "push"]

DATA_DIRECTORY = Path(__file__).resolve().parents[1] / "data"
TRAITS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")


@dataclass(frozen=True, slots=True)
class Household:
    """A household and its traits as surveyed; a trait nobody answered is None."""

    household_id: int
    traits: dict[str, str | int | None]


class Line(NamedTuple):
    """One product on a receipt. A tuple, because 828,850 of them are made in one reading."""

    sku: str
    quantity: int
    amount_minor: int
    department: str | None
    category: str | None


@dataclass(frozen=True, slots=True)
class Basket:
    """One receipt: everything a household bought at one till."""

    basket_id: str
    household_id: int
    store_id: str
    at: datetime
    lines: tuple[Line, ...]

    @property
    def amount_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)


@dataclass(frozen=True, slots=True)
class Redemption:
    """A coupon handed in. The source knows only the day, so the time is midnight UTC."""

    household_id: int
    campaign_id: int
    coupon_upc: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CompleteJourney:
    """The 801 households with known traits, with columns as `data/README.md` lays them out.

    Lines are in basket order: those of basket i are at `line_start[i]:line_start[i + 1]`.
    """

    traits: dict[str, list[str]]
    basket: dict[str, Integers]
    line: dict[str, Integers]
    line_start: Integers
    product_sku: list[str]
    product_department: list[str | None]
    product_category: list[str | None]
    redemption: dict[str, Integers]
    household_ids: list[int]

    def households(self) -> Iterator[Household]:
        """Every household, by its number."""
        for i, household_id in enumerate(self.household_ids):
            yield Household(household_id, {trait: self.traits[trait][i] or None for trait in TRAITS})

    def baskets(self) -> Iterator[Basket]:
        """Every basket in order of time; two at the same second are in order of basket id."""
        start = self.line_start.tolist()
        columns = (self.basket[name].tolist() for name in ("id", "household", "store", "at_seconds"))
        for i, (basket_id, household_id, store_id, at_seconds) in enumerate(zip(*columns, strict=True)):
            yield Basket(str(basket_id), household_id, str(store_id), _utc(at_seconds), tuple(self._lines(start[i], start[i + 1])))

    def redemptions(self) -> Iterator[Redemption]:
        """Every redemption in order of date; those of one day are in the order of the source."""
        columns = (self.redemption[name].tolist() for name in ("household", "campaign", "coupon_upc", "at_seconds"))
        for household_id, campaign_id, coupon_upc, at_seconds in zip(*columns, strict=True):
            yield Redemption(household_id, campaign_id, str(coupon_upc), _utc(at_seconds))

    def _lines(self, start: int, end: int) -> Iterator[Line]:
        sku, department, category = self.product_sku, self.product_department, self.product_category
        columns = (self.line[name][start:end].tolist() for name in ("product", "quantity", "amount_minor"))
        for product, quantity, amount_minor in zip(*columns, strict=True):
            yield Line(sku[product], quantity, amount_minor, department[product], category[product])


class BasketTotals(NamedTuple):
    """The baskets of all 2,469 households, as three columns of equal length in order of time."""

    household: Integers
    at_seconds: Integers
    amount_minor: Integers


@dataclass(frozen=True, slots=True)
class CdnowPurchase:
    """One row of the CDNOW log. Only its row number tells two purchases of one customer on one day apart."""

    row: int
    customer_id: int
    day: date
    quantity: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Contact:
    """An invented way to reach a household; the source has none."""

    email: str
    consents_email: bool
    preferred_channel: Channel
    language: str
    zone: str
    name: str


def load_complete_journey(path: Path = DATA_DIRECTORY / "complete_journey.npz") -> CompleteJourney:
    """Read the households, baskets and redemptions; the iterators then make objects as they are asked for."""
    with np.load(path, allow_pickle=False) as columns:
        product = np.repeat(np.arange(len(columns["product_line_count"])), columns["product_line_count"])
        basket = _undo_deltas(columns["line_basket_delta"])
        # The file keeps lines by product, where prices repeat and so compress; a stable sort brings the receipts back.
        order = np.argsort(basket, kind="stable")
        line = {"product": product, "quantity": columns["line_quantity"], "amount_minor": columns["line_amount_minor"]}
        basket_ids = _undo_deltas(columns["basket_id_delta"])
        departments, categories = columns["department_names"].tolist(), columns["category_names"].tolist()
        return CompleteJourney(
            traits={trait: columns[f"trait_{trait}"].tolist() for trait in TRAITS},
            basket={
                "id": basket_ids,
                "household": columns["basket_household"],
                "store": columns["basket_store"],
                "at_seconds": _undo_deltas(columns["basket_at_delta"]),
            },
            line={name: values[order].astype(np.int64) for name, values in line.items()},
            line_start=np.searchsorted(basket[order], np.arange(len(basket_ids) + 1)),
            product_sku=[str(product_id) for product_id in _undo_deltas(columns["product_id_delta"]).tolist()],
            product_department=_named(columns["product_department"], departments),
            product_category=_named(columns["product_category"], categories),
            redemption={
                "household": columns["redemption_household"],
                "campaign": columns["redemption_campaign"],
                "coupon_upc": columns["redemption_coupon_upc"],
                "at_seconds": columns["redemption_at"],
            },
            household_ids=columns["household_id"].tolist(),
        )


def load_basket_totals(path: Path = DATA_DIRECTORY / "complete_journey_baskets.npz") -> BasketTotals:
    """Read who bought when and for how much, for every household of the study; times are epoch seconds."""
    with np.load(path, allow_pickle=False) as columns:
        return BasketTotals(
            household=columns["household"].astype(np.int64),
            at_seconds=_undo_deltas(columns["at_delta"]),
            amount_minor=columns["amount_minor"].astype(np.int64),
        )


def load_cdnow(path: Path = DATA_DIRECTORY / "cdnow.npz") -> tuple[CdnowPurchase, ...]:
    """Read the log in order of time; the purchases of one day are in the order of its rows, counted from 1."""
    with np.load(path, allow_pickle=False) as columns:
        day = columns["day"].astype(np.int64) + date(1970, 1, 1).toordinal()
        order = np.argsort(day, kind="stable")
        customer = _undo_deltas(columns["customer_delta"])
        values = (customer, day, columns["quantity"], columns["amount_minor"])
        rows = zip((order + 1).tolist(), *(value[order].tolist() for value in values), strict=True)
        return tuple(
            CdnowPurchase(row, customer_id, date.fromordinal(at), quantity, amount) for row, customer_id, at, quantity, amount in rows
        )


CONSENT_SHARE = 0.8
CHANNEL_SHARES: Mapping[Channel, float] = {"email": 0.5, "line": 0.2, "sms": 0.15, "push": 0.15}
ZONE_SHARES: Mapping[str, float] = {
    "America/New_York": 0.4,
    "America/Chicago": 0.2,
    "America/Denver": 0.1,
    "America/Los_Angeles": 0.15,
    "Asia/Bangkok": 0.15,
}
NAMES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "en": (
        ("Alice", "Ben", "Carmen", "David", "Elena", "Frank", "Grace", "Hugo", "Irene", "Jack", "Kim", "Leo"),
        ("Adams", "Brooks", "Carter", "Diaz", "Evans", "Foster", "Gray", "Hughes", "Irving", "Jones", "Klein", "Lopez"),
    ),
    "th": (
        ("Anong", "Boonsri", "Chai", "Duangjai", "Kamon", "Malee", "Niran", "Preecha", "Somchai", "Suda", "Tida", "Wichai"),
        ("Bunnak", "Chaiyasit", "Intharat", "Kaewmanee", "Rattanakul", "Saelim", "Srisuk", "Suwan", "Thongchai", "Wongsa"),
    ),
}


def synthetic_contact(household_id: int) -> Contact:
    """The same invented contact for the same household on every machine.

    Consent and preference are drawn apart, so some prefer e-mail without having agreed to it: a real case, and one a policy must catch.
    """
    zone = _pick(ZONE_SHARES, _share_of(household_id, "zone"))
    language = "th" if zone == "Asia/Bangkok" else "en"
    given, family = NAMES[language]
    return Contact(
        email=f"household-{household_id}@example.com",
        consents_email=_share_of(household_id, "consent") < CONSENT_SHARE,
        preferred_channel=_pick(CHANNEL_SHARES, _share_of(household_id, "channel")),
        language=language,
        zone=zone,
        name=f"{given[int(_share_of(household_id, 'given') * len(given))]} {family[int(_share_of(household_id, 'family') * len(family))]}",
    )


def _share_of(household_id: int, question: str) -> float:
    """A number in [0, 1) that depends on the household and the question alone; `hash` would change with each process."""
    digest = hashlib.blake2b(f"{question}:{household_id}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _pick(shares: Mapping[Choice, float], point: float) -> Choice:
    upper = 0.0
    for choice, share in shares.items():
        upper += share
        if point < upper:
            return choice
    return choice


def _undo_deltas(deltas: NDArray[np.integer[Any]]) -> Integers:
    return np.cumsum(deltas, dtype=np.int64)


def _named(codes: NDArray[np.integer[Any]], names: list[str]) -> list[str | None]:
    """The name of each code; -1 stands for a product the source does not describe."""
    return [None if code < 0 else names[code] for code in codes.tolist()]


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
