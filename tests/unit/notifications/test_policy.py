"""The gate: its reasons, its order, and what it may never do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from services.notifications.domain.contacts import Answer, Contact, Sent, Suppression, suppression_subjects
from services.notifications.domain.policy import Cap, Deferred, Proposal, Rules, Send, Suppressed, may_send
from services.notifications.domain.quiet_hours import QuietHours
from services.notifications.domain.reasons import Reason

NOON = datetime(2017, 6, 1, 12, tzinfo=UTC)
NIGHT = datetime(2017, 6, 1, 23, tzinfo=UTC)
YES = Answer(True, NOON - timedelta(days=100))
NO = Answer(False, NOON - timedelta(days=50))
RULES = Rules(
    quiet_hours=QuietHours(time(21), time(8)),
    caps=(Cap("email", 1, timedelta(days=1)), Cap(None, 3, timedelta(days=7))),
    home_zone=ZoneInfo("UTC"),
    unknown_grace=timedelta(seconds=30),
)
ADA = Contact("c" * 32, 1, {"email": "ada@example.com"}, {("marketing", "email"): YES}, "email", "en", "UTC", "Ada")
OFFER = Proposal("email", "marketing", NOON + timedelta(days=14))


def ask(contact=ADA, message=OFFER, sent=(), suppressions=(), now=NOON):
    return may_send(message, contact, sent=sent, suppressions=suppressions, now=now, rules=RULES)


def test_who_agreed_and_is_awake_gets_it():
    assert ask() == Send("ada@example.com")


def test_silence_is_no_consent_to_marketing():
    assert ask(replace(ADA, consents={})) == Suppressed(Reason.NO_CONSENT)


def test_a_withdrawn_consent_is_no_consent():
    assert ask(replace(ADA, consents={("marketing", "email"): NO})) == Suppressed(Reason.NO_CONSENT)


def test_consent_to_another_channel_or_purpose_does_not_count():
    assert ask(replace(ADA, consents={("marketing", "line"): YES, ("service", "email"): YES})) == Suppressed(Reason.NO_CONSENT)


def test_a_service_message_needs_no_yes_but_heeds_a_no():
    service = replace(OFFER, purpose="service")
    assert ask(replace(ADA, consents={}), service) == Send("ada@example.com")
    assert ask(replace(ADA, consents={("service", "email"): NO}), service) == Suppressed(Reason.NO_CONSENT)


def test_at_the_moment_of_expiry_it_is_expired():
    assert ask(now=OFFER.expires_at) == Suppressed(Reason.EXPIRED)
    assert ask(now=OFFER.expires_at - timedelta(seconds=1)) == Send("ada@example.com")


def test_an_unknown_customer_is_waited_for_and_then_given_up():
    assert ask(None) == Deferred(NOON, Reason.UNKNOWN_CUSTOMER)
    assert ask(None, replace(OFFER, waited=timedelta(seconds=30))) == Suppressed(Reason.UNKNOWN_CUSTOMER)


def test_without_an_address_there_is_nothing_to_send_to():
    assert ask(replace(ADA, addresses={"sms": "+66812345678"})) == Suppressed(Reason.NO_ADDRESS)


def test_suppressions_forbid_what_they_cover():
    listed = Suppression("customer:x")
    assert ask(suppressions=[listed]) == Suppressed(Reason.SUPPRESSION_LIST)
    assert ask(suppressions=[replace(listed, channel="email", purpose="marketing")]) == Suppressed(Reason.SUPPRESSION_LIST)
    assert ask(suppressions=[replace(listed, channel="sms")]) == Send("ada@example.com")
    assert ask(suppressions=[replace(listed, purpose="service")]) == Send("ada@example.com")


def test_a_consent_given_after_unsubscribing_counts_again():
    left = Suppression("customer:x", "email", "marketing", until_consent_after=YES.at + timedelta(days=1))
    assert ask(suppressions=[left]) == Suppressed(Reason.SUPPRESSION_LIST)
    back = replace(ADA, consents={("marketing", "email"): Answer(True, YES.at + timedelta(days=2))})
    assert ask(back, suppressions=[left]) == Send("ada@example.com")


def test_a_customer_is_found_by_id_address_and_domain():
    contact = replace(ADA, addresses={"email": "Ada@Example.com", "sms": "+661"})
    subjects = suppression_subjects(ADA.customer_id, contact)
    assert subjects == (f"customer:{ADA.customer_id}", "email:ada@example.com", "domain:example.com", "sms:+661")


def test_at_night_it_waits_for_the_morning():
    assert ask(now=NIGHT) == Deferred(datetime(2017, 6, 2, 8, tzinfo=UTC), Reason.QUIET_HOURS)


def test_night_is_where_the_customer_is():
    bangkok = replace(ADA, time_zone="Asia/Bangkok")
    assert ask(bangkok, now=NOON) == Send("ada@example.com")
    assert ask(bangkok, now=NOON + timedelta(hours=3)) == Deferred(datetime(2017, 6, 2, 1, tzinfo=UTC), Reason.QUIET_HOURS)


def test_a_zone_nobody_knows_is_taken_for_home():
    assert ask(replace(ADA, time_zone="Mars/Olympus"), now=NIGHT) == ask(now=NIGHT)


def test_what_expires_before_morning_is_not_kept_waiting():
    assert ask(message=replace(OFFER, expires_at=NIGHT + timedelta(hours=2)), now=NIGHT) == Suppressed(Reason.QUIET_HOURS)


def test_one_e_mail_a_day_and_three_messages_a_week():
    def hours_ago(hours, channel="email"):
        return Sent(channel, NOON - timedelta(hours=hours))

    assert ask(sent=[hours_ago(23)]) == Suppressed(Reason.FREQUENCY_CAP)
    assert ask(sent=[hours_ago(24)]) == Send("ada@example.com")
    assert ask(sent=[hours_ago(1, "line")]) == Send("ada@example.com")
    assert ask(sent=[hours_ago(30), hours_ago(60, "line"), hours_ago(90)]) == Suppressed(Reason.FREQUENCY_CAP)
    assert ask(sent=[hours_ago(30), hours_ago(60), hours_ago(168)]) == Send("ada@example.com")


def test_caps_do_not_count_for_service_messages():
    service = replace(OFFER, purpose="service")
    assert ask(message=service, sent=[Sent("email", NOON)]) == Send("ada@example.com")


def test_the_first_reason_in_the_documented_order_is_given():
    """Everything is against it; taking one reason away after the other shows the next."""
    contact = replace(ADA, consents={}, addresses={})
    sent = [Sent("email", NIGHT)]
    listed = [Suppression("customer:x")]
    late = replace(OFFER, expires_at=NIGHT)
    assert ask(None, late, sent, listed, NIGHT) == Suppressed(Reason.EXPIRED)
    assert ask(None, OFFER, sent, listed, NIGHT) == Deferred(NIGHT, Reason.UNKNOWN_CUSTOMER)
    assert ask(contact, OFFER, sent, listed, NIGHT) == Suppressed(Reason.SUPPRESSION_LIST)
    assert ask(contact, OFFER, sent, (), NIGHT) == Suppressed(Reason.NO_CONSENT)
    assert ask(replace(contact, consents=ADA.consents), OFFER, sent, (), NIGHT) == Suppressed(Reason.NO_ADDRESS)
    assert isinstance(ask(ADA, OFFER, sent, (), NIGHT), Deferred)
    assert ask(ADA, OFFER, [Sent("email", NOON)], (), NOON) == Suppressed(Reason.FREQUENCY_CAP)


ZONES_KNOWN = {"UTC", "Asia/Bangkok", "America/New_York", "Australia/Lord_Howe", "Europe/Berlin", "America/Sao_Paulo"}

moments = st.integers(946684800, 1893456000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
zones = st.sampled_from([*sorted(ZONES_KNOWN), None, "No/Where"])
answers = st.builds(Answer, st.booleans(), moments)
consents = st.dictionaries(st.tuples(st.sampled_from(["marketing", "service"]), st.sampled_from(["email", "line", "sms"])), answers)
contacts = st.builds(
    Contact,
    st.just("c" * 32),
    st.just(1),
    st.dictionaries(st.sampled_from(["email", "line"]), st.just("somewhere")),
    consents,
    st.sampled_from([None, "email", "line"]),
    st.none(),
    zones,
    st.none(),
)
proposals = st.builds(Proposal, st.sampled_from(["email", "line"]), st.sampled_from(["marketing", "service"]), moments)
histories = st.lists(st.builds(Sent, st.sampled_from(["email", "line"]), moments), max_size=4)


@given(contacts, proposals, histories, moments)
def test_nothing_is_ever_sent_without_consent_at_night_or_too_late(contact, message, sent, now):
    verdict = ask(contact, message, sent, (), now)
    if isinstance(verdict, Send):
        answer = contact.consents.get((message.purpose, message.channel))
        assert answer.granted if message.purpose == "marketing" else answer is None or answer.granted
        assert now < message.expires_at
        known = contact.time_zone if contact.time_zone in ZONES_KNOWN else "UTC"
        assert time(8) <= now.astimezone(ZoneInfo(known)).time() < time(21)


@given(contacts, proposals, histories, moments)
def test_whatever_is_put_off_is_put_off_to_a_later_moment_before_expiry(contact, message, sent, now):
    verdict = ask(contact, message, sent, (), now)
    if isinstance(verdict, Deferred):
        assert now < verdict.until < message.expires_at
        again = ask(contact, message, sent, (), verdict.until)
        assert not isinstance(again, Deferred)
