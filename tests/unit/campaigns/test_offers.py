"""A cause leads to one offer, or to a reason why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.campaigns.domain.holdout import holdout
from services.campaigns.domain.offers import Candidate, Cause, Offer, OfferStatus, Skipped, SkipReason, decide_offer
from services.campaigns.programs import shipped_programs
from shared.contracts.envelope import derived_id

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROGRAMS = {program.name: program for program in shipped_programs()}
WIN_BACK = PROGRAMS["win_back"]
CUSTOMERS = [derived_id("profile", f"loyalty_card:{number}") for number in range(200)]
TREATED = next(customer for customer in CUSTOMERS if not holdout("win_back", WIN_BACK.holdout_share, customer))
HELD_OUT = next(customer for customer in CUSTOMERS if holdout("win_back", WIN_BACK.holdout_share, customer))
CAUSE = Cause("segmentation/entered-1", NOW - timedelta(hours=1))
SCORE = {"risk": 0.8, "risk_band": "leaving"}


def test_an_offer_carries_everything_its_delivery_and_its_measurement_need() -> None:
    offer = decide_offer(WIN_BACK, Candidate(TREATED), CAUSE, SCORE, NOW)
    assert isinstance(offer, Offer)
    assert (offer.status, offer.reason) == (OfferStatus.PENDING, None)
    assert (offer.template, offer.purpose, offer.content) == ("win_back", "marketing", {"discount_percent": 15})
    assert (offer.decided_at, offer.expires_at) == (NOW, NOW + timedelta(days=30))
    assert offer.score == SCORE


def test_the_same_cause_gives_the_same_id_and_another_cause_or_customer_another() -> None:
    later = decide_offer(WIN_BACK, Candidate(TREATED), CAUSE, None, NOW + timedelta(days=2))
    others = [
        decide_offer(WIN_BACK, Candidate(TREATED), Cause("segmentation/entered-2", CAUSE.at), None, NOW),
        decide_offer(WIN_BACK, Candidate(HELD_OUT), CAUSE, None, NOW),
    ]
    assert decide_offer(WIN_BACK, Candidate(TREATED), CAUSE, SCORE, NOW).id == later.id
    assert len({later.id, *(other.id for other in others)}) == 3


def test_a_cause_that_returns_after_its_program_was_changed_is_the_same_offer() -> None:
    changed = WIN_BACK.model_copy(update={"version": 2})
    assert decide_offer(changed, Candidate(TREATED), CAUSE, None, NOW).id == decide_offer(WIN_BACK, Candidate(TREATED), CAUSE, None, NOW).id


def test_who_is_held_out_gets_an_offer_that_is_never_sent() -> None:
    offer = decide_offer(WIN_BACK, Candidate(HELD_OUT), CAUSE, SCORE, NOW)
    assert isinstance(offer, Offer)
    assert offer.status is OfferStatus.HELD_OUT
    assert offer.reason in ("global_holdout", "program_holdout")
    assert offer.score == SCORE


@pytest.mark.parametrize("customer", [TREATED, HELD_OUT])
def test_old_causes_start_nothing(customer: str) -> None:
    window = timedelta(days=WIN_BACK.proposal.window_days if WIN_BACK.proposal else 0)
    assert isinstance(decide_offer(WIN_BACK, Candidate(customer), Cause("c", NOW - window), None, NOW), Offer)
    skipped = decide_offer(WIN_BACK, Candidate(customer), Cause("c", NOW - window - timedelta(seconds=1)), None, NOW)
    assert isinstance(skipped, Skipped)
    assert skipped.reason is SkipReason.OUTSIDE_WINDOW


@pytest.mark.parametrize("customer", [TREATED, HELD_OUT])
def test_a_customer_is_left_alone_until_the_cooldown_ends(customer: str) -> None:
    def decide(days: float) -> Offer | Skipped:
        return decide_offer(WIN_BACK, Candidate(customer, {"win_back": NOW - timedelta(days=days)}), CAUSE, None, NOW)

    early = decide(89.9)
    assert isinstance(early, Skipped)
    assert early.reason is SkipReason.COOLING_DOWN
    assert isinstance(decide(90), Offer)


def test_another_programs_offer_cools_nothing_down() -> None:
    assert isinstance(decide_offer(WIN_BACK, Candidate(TREATED, {"welcome": NOW}), CAUSE, None, NOW), Offer)


def test_a_loyalty_program_proposes_nothing() -> None:
    with pytest.raises(ValueError, match="proposes nothing"):
        decide_offer(PROGRAMS["points"], Candidate(TREATED), CAUSE, None, NOW)
