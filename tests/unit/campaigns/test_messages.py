"""What campaigns publishes is what the contracts say."""

from __future__ import annotations

from datetime import UTC, datetime

from services.campaigns.domain.loyalty import Purchase, Rule, points_for
from services.campaigns.domain.offers import Candidate, Cause, Offer, decide_offer
from services.campaigns.handlers.writing import offer_decided, points_posted
from services.campaigns.programs import shipped_programs
from shared.contracts.envelope import Event, derived_id
from shared.contracts.offers import OfferDecided, PointsPosted

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
PROFILE, CUSTOMER = derived_id("profile", 1), derived_id("profile", 2)


def test_points_posted_reads_as_its_contract() -> None:
    entry = points_for(Purchase("till-1", "p1", PROFILE, 1999, True, NOW), Rule("points", 1, 100))
    message = points_posted(entry, CUSTOMER, NOW)
    event = Event[PointsPosted].model_validate_json(message.value or b"")
    assert message.key == CUSTOMER.encode()
    assert (event.type, event.time) == ("dear.PointsPosted", NOW)
    assert event.data.model_dump() == {
        "entry_id": entry.id, "customer_id": CUSTOMER, "profile_id": PROFILE, "kind": "reversed", "points": -19,
        "cause_source": "till-1", "cause_id": "p1", "occurred_at": NOW, "posted_at": NOW,
    }  # fmt: skip
    assert points_posted(entry, CUSTOMER, datetime.now(UTC)).key == message.key


def test_the_news_of_an_entry_has_the_same_id_each_time_it_is_told() -> None:
    entry = points_for(Purchase("till-1", "p1", PROFILE, 1999, False, NOW), Rule("points", 1, 100))
    first, second = (
        Event[PointsPosted].model_validate_json(points_posted(entry, CUSTOMER, at).value or b"") for at in (NOW, datetime.now(UTC))
    )
    assert first.id == second.id


def test_offer_decided_reads_as_its_contract() -> None:
    welcome = next(program for program in shipped_programs() if program.name == "welcome")
    offer = decide_offer(welcome, Candidate(CUSTOMER), Cause("c", NOW), None, NOW)
    assert isinstance(offer, Offer)
    event = Event[OfferDecided].model_validate_json(offer_decided(offer).value or b"")
    assert (event.data.offer_id, event.data.template, event.data.expires_at) == (offer.id, "welcome", offer.expires_at)
