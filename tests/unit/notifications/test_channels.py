"""Which channel a message takes, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.notifications.domain.channels import Choice, choose_channel
from services.notifications.domain.contacts import Answer, Contact, contact_of
from services.notifications.domain.reasons import ChannelReason
from shared.contracts.customers import Consent, CustomerPublished

AT = datetime(2017, 1, 1, tzinfo=UTC)
YES = Answer(True, AT)
BOTH = Contact(
    "c" * 32,
    1,
    {"email": "a@example.com", "line": "U1"},
    {("marketing", "email"): YES, ("marketing", "line"): YES},
    preferred_channel="line",
)


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        (replace(BOTH, preferred_channel="email"), ChannelReason.PREFERRED),
        (replace(BOTH, preferred_channel=None), ChannelReason.NO_PREFERENCE),
        (BOTH, ChannelReason.PREFERRED_NOT_DELIVERABLE),
        (replace(BOTH, preferred_channel="email", consents={}), ChannelReason.PREFERRED_NOT_CONSENTED),
        (replace(BOTH, preferred_channel="email", addresses={}), ChannelReason.PREFERRED_WITHOUT_ADDRESS),
        (None, ChannelReason.UNKNOWN_CUSTOMER),
    ],
)
def test_while_only_e_mail_can_be_delivered_it_is_e_mail_with_the_reason(contact, expected):
    assert choose_channel(contact, "marketing") == Choice("email", expected)


def test_where_the_preferred_channel_can_be_delivered_it_is_taken():
    assert choose_channel(BOTH, "marketing", ("email", "line")) == Choice("line", ChannelReason.PREFERRED)


def test_the_fallback_is_one_that_may_be_used():
    contact = replace(BOTH, preferred_channel="email", consents={("marketing", "line"): YES})
    assert choose_channel(contact, "marketing", ("email", "line")) == Choice("line", ChannelReason.PREFERRED_NOT_CONSENTED)


def test_a_published_customer_becomes_a_contact():
    published = CustomerPublished(
        customer_id="c" * 32,
        version=4,
        members=("c" * 32,),
        references=("loyalty_card:7", "email:a@example.com", "email:old@example.com", "phone:+661", "line:U1"),
        traits={"name": "Anong Bunnak", "age": 35},
        consents=(Consent(purpose="marketing", channel="email", granted=True, at=AT),),
        preferred_channel="line",
        language="th",
        time_zone="Asia/Bangkok",
        first_seen_at=AT,
    )
    assert contact_of(published) == Contact(
        "c" * 32,
        4,
        {"email": "a@example.com", "sms": "+661", "call": "+661", "line": "U1"},
        {("marketing", "email"): YES},
        "line",
        "th",
        "Asia/Bangkok",
        "Anong",
    )
