import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from stack.datasets import (
    DATA_DIRECTORY,
    TRAITS,
    Basket,
    CdnowPurchase,
    CompleteJourney,
    load_basket_totals,
    load_cdnow,
    load_complete_journey,
    synthetic_contact,
)


@pytest.fixture(scope="module")
def journey() -> CompleteJourney:
    return load_complete_journey()


@pytest.fixture(scope="module")
def baskets(journey: CompleteJourney) -> list[Basket]:
    return list(journey.baskets())


@pytest.fixture(scope="module")
def cdnow() -> tuple[CdnowPurchase, ...]:
    return load_cdnow()


def test_the_journey_holds_every_basket_of_the_known_households(journey: CompleteJourney, baskets: list[Basket]) -> None:
    totals = [basket.amount_minor for basket in baskets]
    assert len(baskets) == len({basket.basket_id for basket in baskets}) == 81_817
    assert {basket.household_id for basket in baskets} == {household.household_id for household in journey.households()}
    assert sum(totals) == 262_497_964
    assert totals.count(0) == 276
    assert sum(total // 100 for total in totals) == 2_585_303


def test_the_journey_holds_every_line_even_those_of_quantity_zero(baskets: list[Basket]) -> None:
    quantities = [line.quantity for basket in baskets for line in basket.lines]
    assert len(quantities) == 828_850
    assert quantities.count(0) == 5_180
    assert min(len(basket.lines) for basket in baskets) == 1


def test_the_journey_holds_the_households_with_their_surveyed_traits(journey: CompleteJourney) -> None:
    households = list(journey.households())
    assert len(households) == len({household.household_id for household in households}) == 801
    assert all(tuple(household.traits) == TRAITS for household in households)
    assert households[0].traits["age"] == "65+"
    assert Counter(household.traits["home_ownership"] for household in households)[None] == 233


def test_baskets_come_in_order_of_time_and_then_of_id(baskets: list[Basket]) -> None:
    assert is_sorted((basket.at, basket.basket_id) for basket in baskets)
    assert (baskets[0].at, baskets[-1].at) == (datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC), datetime(2018, 1, 1, 4, 1, 20, tzinfo=UTC))


def test_a_receipt_reads_as_it_was_printed(baskets: list[Basket]) -> None:
    receipt = next(basket for basket in baskets if basket.basket_id == "31198705046")
    assert (receipt.household_id, receipt.store_id, receipt.at) == (906, "319", datetime(2017, 1, 1, 12, 30, 27, tzinfo=UTC))
    assert [(line.sku, line.quantity, line.amount_minor) for line in receipt.lines] == [
        ("1020156", 1, 150),
        ("1053875", 2, 278),
        ("1060312", 1, 549),
        ("1075313", 1, 150),
    ]


def test_a_product_the_source_does_not_describe_has_neither_department_nor_category(baskets: list[Basket]) -> None:
    undescribed = [line for basket in baskets for line in basket.lines if line.department is None]
    assert len(undescribed) == 3_228
    assert all(line.category is None for line in undescribed)


def test_redemptions_come_in_order_of_date(journey: CompleteJourney, baskets: list[Basket]) -> None:
    redemptions = list(journey.redemptions())
    assert len(redemptions) == 1_669
    assert is_sorted(redemption.at for redemption in redemptions)
    assert {redemption.household_id for redemption in redemptions} <= {basket.household_id for basket in baskets}


def test_the_totals_of_all_households_agree_with_the_baskets_of_the_known_ones(baskets: list[Basket]) -> None:
    totals = load_basket_totals()
    known = {basket.household_id for basket in baskets}
    rows = list(zip(*(column.tolist() for column in totals), strict=True))
    assert len(rows) == 155_848
    assert len({household for household, _, _ in rows}) == 2_469
    assert is_sorted(at for _, at, _ in rows)
    assert [row for row in rows if row[0] in known] == [
        (basket.household_id, int(basket.at.timestamp()), basket.amount_minor) for basket in baskets
    ]


def test_cdnow_holds_every_row_of_the_log_in_order_of_time(cdnow: tuple[CdnowPurchase, ...]) -> None:
    assert len(cdnow) == 69_659
    assert len({purchase.customer_id for purchase in cdnow}) == 23_570
    assert sum(purchase.amount_minor for purchase in cdnow) == 250_031_563
    assert is_sorted((purchase.day, purchase.row) for purchase in cdnow)
    assert sorted(purchase.row for purchase in cdnow) == list(range(1, 69_660))


def test_a_cdnow_row_reads_as_it_was_printed(cdnow: tuple[CdnowPurchase, ...]) -> None:
    by_row = {purchase.row: purchase for purchase in cdnow}
    assert by_row[3] == CdnowPurchase(3, 2, date(1997, 1, 12), 5, 7_700)
    assert by_row[69_659] == CdnowPurchase(69_659, 23_570, date(1997, 3, 26), 2, 4_296)


def test_a_contact_is_the_same_on_every_machine() -> None:
    contact = synthetic_contact(7)
    assert contact == synthetic_contact(7)
    assert (contact.email, contact.zone, contact.name) == ("household-7@example.com", "Asia/Bangkok", "Suda Kaewmanee")


def test_four_in_five_contacts_consent_to_email(journey: CompleteJourney) -> None:
    contacts = [synthetic_contact(household.household_id) for household in journey.households()]
    assert sum(contact.consents_email for contact in contacts) / len(contacts) == pytest.approx(0.8, abs=0.01)
    assert len({contact.email for contact in contacts}) == 801


def test_contacts_are_spread_over_channels_languages_and_zones() -> None:
    contacts = [synthetic_contact(household_id) for household_id in range(10_000)]
    channels = Counter(contact.preferred_channel for contact in contacts)
    zones = Counter(contact.zone for contact in contacts)
    shares = {channel: count / len(contacts) for channel, count in channels.items()}
    assert shares == pytest.approx({"email": 0.5, "line": 0.2, "sms": 0.15, "push": 0.15}, abs=0.01)
    assert zones.keys() == {"America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles", "Asia/Bangkok"}
    assert all((contact.language == "th") == (contact.zone == "Asia/Bangkok") for contact in contacts)


def test_the_readme_names_each_file_with_its_size_and_digest() -> None:
    rows = re.findall(
        r"^\| `(\S+\.npz)` \| ([\d,]+) \| `([0-9a-f]{64})` \|$", (DATA_DIRECTORY / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert {(name, int(size.replace(",", "")), digest) for name, size, digest in rows} == {
        described(path) for path in DATA_DIRECTORY.glob("*.npz")
    }


def described(path: Path) -> tuple[str, int, str]:
    content = path.read_bytes()
    return path.name, len(content), hashlib.sha256(content).hexdigest()


def is_sorted(keys: Iterable[Any]) -> bool:
    listed = list(keys)
    return listed == sorted(listed)
