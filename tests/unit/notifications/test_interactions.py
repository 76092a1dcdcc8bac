"""What is told of mails and of their readers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.notifications.domain.contacts import Answer, Contact, Suppression
from services.notifications.domain.interactions import (
    Kind,
    Untracked,
    is_tracked,
    response_to,
    told_of_mail,
    told_of_response,
    why_not_tracked,
)
from services.notifications.domain.messages import Message, Outcome, State

AT = datetime(2017, 6, 1, 12, tzinfo=UTC)
MAIL = Message("ab" * 16, "o1", "win_back", "c1", "email", 3, "win_back", "marketing", {}, AT, AT, AT, 0, reference="email:old@example.com")
SENT = Outcome(MAIL, State.SENT, AT, reference="email:ada@example.com", tracked=True)
ADA = Contact("c1", 1, {"email": "ada@example.com"}, {("marketing", "email"): Answer(True, AT)})
LEFT = Suppression("customer:c1", "email", "marketing", until_consent_after=AT)


def test_a_mail_that_was_handed_over_happened_to_whom_it_was_written_to():
    event = told_of_mail(SENT)
    assert event is not None
    assert (event.source, event.time, event.data.kind, event.data.reference) == (
        "dear/notifications",
        AT,
        "EmailSent",
        "email:ada@example.com",
    )
    assert event.data.properties == {
        "message_id": "ab" * 16,
        "offer_id": "o1",
        "program": "win_back",
        "template": "win_back",
        "channel": "email",
        "tracked": True,
    }
    assert told_of_mail(SENT) == event


@pytest.mark.parametrize("state", [state for state in State if state is not State.SENT])
def test_of_no_other_outcome_a_mail_is_told(state):
    assert told_of_mail(replace(SENT, state=state)) is None


def test_what_is_known_to_have_been_told_is_not_told_again():
    assert told_of_mail(replace(SENT, reference=None)) is None


def test_the_first_response_of_a_kind_on_a_day_is_the_one_that_counts():
    def id(kind=Kind.OPENED, hours=0, **message):
        return response_to(replace(MAIL, **message), kind, "email:ada@example.com", AT + timedelta(hours=hours)).response_id

    assert id() == id(hours=11)
    assert len({id(), id(hours=12), id(Kind.CLICKED), id(message_id="cd" * 16)}) == 4


def test_a_click_says_where_it_led():
    event = told_of_response(response_to(MAIL, Kind.CLICKED, "email:ada@example.com", AT, "https://shop.example/"))
    assert (event.data.kind, event.data.properties["link"], event.data.properties["program"]) == (
        "EmailClicked",
        "https://shop.example/",
        "win_back",
    )
    assert "link" not in told_of_response(response_to(MAIL, Kind.OPENED, "email:ada@example.com", AT)).data.properties


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"track": False}, Untracked.SWITCHED_OFF),
        ({"message": replace(MAIL, purpose="service")}, Untracked.SERVICE_MESSAGE),
        ({"contact": None}, Untracked.UNKNOWN_CUSTOMER),
        ({"suppressions": [LEFT]}, Untracked.SUPPRESSION_LIST),
        ({"suppressions": [replace(LEFT, until_consent_after=AT - timedelta(days=1))]}, None),
        ({"contact": replace(ADA, consents={})}, Untracked.NO_CONSENT),
        ({"contact": replace(ADA, consents={("marketing", "email"): Answer(False, AT)})}, Untracked.NO_CONSENT),
        ({"contact": replace(ADA, addresses={})}, Untracked.NO_ADDRESS),
    ],
)
def test_what_a_reader_does_is_noted_only_while_they_agree(changes, reason):
    asked = {"message": MAIL, "contact": ADA, "suppressions": [], "track": True} | changes
    assert why_not_tracked(**asked) is reason


def test_service_messages_hold_nothing_that_tells_they_were_read():
    assert is_tracked(MAIL, True)
    assert not is_tracked(MAIL, False)
    assert not is_tracked(replace(MAIL, purpose="service"), True)


def test_an_address_is_named_as_sources_name_it():
    everywhere = Contact("c1", 1, {"email": "a@b.c", "line": "u1", "sms": "+66", "call": "+66"})
    named = [everywhere.reference_on(channel) for channel in ("email", "line", "sms", "call", "push")]
    assert named == ["email:a@b.c", "line:u1", "phone:+66", "phone:+66", None]
