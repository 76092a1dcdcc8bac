"""From an offer to a mail, or to the reason why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from shared.contracts.topics import CUSTOMERS, DEAD_LETTERS, DELIVERIES, OFFERS
from shared.streaming.records import Message
from tests.notifications.world import NOON, Sink, World, customer_id, customer_message, offer_message


def run(scenario: Callable[[], object]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_an_offer_becomes_one_mail_and_one_delivery(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1)
        assert world.messages()[0]["unreported"]
        await world.bus.stop()

    run(scenario)
    assert sink.recipients == ["household-1@example.com"]
    mail = sink.mails[0][1]
    assert mail["Subject"] == "We miss you, Ada: 15% off your next visit"
    assert mail["Message-ID"] == f"<{world.messages()[0]['_id']}@shop.example>"
    assert world.deliveries() == [
        {
            "offer_id": "offer-1",
            "program": "win_back",
            "customer_id": customer_id(1),
            "channel": "email",
            "outcome": "sent",
            "reason": None,
            "decided_at": "2017-06-01T12:00:00Z",
        }
    ]
    assert world.messages()[0]["channel_reason"] == "preferred"
    assert "unreported" not in world.messages()[0]


def test_a_thai_customer_gets_thai_and_it_reads_back(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, language="th", traits={"name": "อนงค์ บุนนาค"})
        await world.offer(1, template="welcome", program="welcome")

    run(scenario)
    mail = sink.mails[0][1]
    assert mail["Subject"] == "ยินดีต้อนรับคุณ อนงค์ สู่ครอบครัวของเรา"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "ส่วนลด 15%" in text.get_content()
    assert "15 มิถุนายน 2560" in html.get_content()
    assert world.messages()[0]["language"] == "th"


def test_who_prefers_line_but_agreed_to_e_mail_gets_e_mail_and_the_record_says_why(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, preferred_channel="line")
        await world.offer(1)

    run(scenario)
    assert len(sink.mails) == 1
    assert world.messages()[0]["channel_reason"] == "preferred_not_deliverable"


def test_refusals_are_recorded_with_their_reasons_and_reported(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, consent=None)
        await world.know(2, references=("loyalty_card:2",))
        await world.know(3)
        await world.offer(1, 2)
        await world.offer(3, at=NOON - timedelta(days=20))

    run(scenario)
    assert sink.mails == []
    assert sorted(world.outcomes()) == [("suppressed", "expired"), ("suppressed", "no_address"), ("suppressed", "no_consent")]


def test_an_offer_that_overtook_its_customer_waits_a_little(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.offer(1)
        assert world.states() == [("due", "unknown_customer")]
        await world.know(1)
        world.database["messages"].update_many({}, {"$unset": {"retry_at": ""}})  # The second until the next look is over.
        await world.bus.tick()

    run(scenario)
    assert world.states() == [("sent", None)]
    assert len(sink.mails) == 1


def test_a_customer_nobody_ever_published_is_given_up(new_world: Callable[..., World], sink: Sink) -> None:
    world = new_world(unknown_customer_grace_seconds=0)

    async def scenario() -> None:
        await world.bus.start()
        await world.offer(1)

    run(scenario)
    assert world.outcomes() == [("suppressed", "unknown_customer")]


def test_what_waits_for_the_morning_is_sent_when_the_clock_gets_there(world: World, sink: Sink) -> None:
    evening = NOON + timedelta(hours=11)

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1, at=evening)
        assert world.states() == [("due", "quiet_hours")]
        await world.bus.tick()
        assert sink.mails == []
        world.clock.observe(evening + timedelta(hours=9))
        await world.bus.tick()

    run(scenario)
    assert world.states() == [("sent", None)]
    assert world.messages()[0]["claimed_at"] == evening + timedelta(hours=9)
    assert world.outcomes() == [("sent", None)]


def test_consent_withdrawn_while_it_waits_stops_it(world: World, sink: Sink) -> None:
    evening = NOON + timedelta(hours=11)

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1, at=evening)
        await world.know(1, version=2, consent=False)
        world.clock.observe(evening + timedelta(hours=24))
        await world.bus.tick()

    run(scenario)
    assert sink.mails == []
    assert world.outcomes() == [("suppressed", "no_consent")]


def test_an_older_version_of_a_customer_changes_nothing(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, version=2, consent=False)
        await world.know(1, version=1, consent=True)
        await world.offer(1)

    run(scenario)
    assert world.outcomes() == [("suppressed", "no_consent")]


def test_a_tombstone_forgets_the_customer(world: World) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, 2)
        await world.bus.publish(CUSTOMERS, [Message(customer_id(1).encode(), None)])
        await world.bus.settle()

    run(scenario)
    assert [contact["_id"] for contact in world.database["contacts"].find()] == [customer_id(2)]


def test_one_a_day_also_when_all_arrive_at_once(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, 2)
        messages = [offer_message(number, name) for name in ("a", "b", "c") for number in (1, 2)]
        await world.bus.publish(OFFERS, messages)
        await world.bus.settle()

    run(scenario)
    assert sorted(sink.recipients) == ["household-1@example.com", "household-2@example.com"]
    assert sorted(world.outcomes(), key=str) == [("sent", None)] * 2 + [("suppressed", "frequency_cap")] * 4


def test_three_a_week(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        for day in range(8):
            await world.offer(1, offer_id=f"day{day}", at=NOON + timedelta(days=day))

    run(scenario)
    assert [outcome for outcome, _ in world.outcomes()] == ["sent"] * 3 + ["suppressed"] * 4 + ["sent"]


def test_invalid_offers_are_parked_and_their_neighbours_pass(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        good = offer_message(1)
        key = good.key
        wrong_type = customer_message(1)
        await world.bus.publish(OFFERS, [Message(key, b"{"), Message(key, b"\xff"), Message(key, wrong_type.value), good])
        await world.bus.settle()

    run(scenario)
    assert len(sink.mails) == 1
    assert sorted(parked["reason"] for parked in world.bus.parked()) == ["invalid_event"] * 3
    assert len(world.bus.records(DEAD_LETTERS)) == 3


def test_a_template_that_cannot_be_filled_in_fails_with_its_reason(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, 2)
        await world.offer(1, template="birthday")
        await world.offer(2)

    run(scenario)
    assert sink.recipients == ["household-2@example.com"]
    assert world.outcomes().count(("failed", "template_failed")) == 1
    assert "birthday" in world.messages(state="failed")[0]["detail"]


def test_an_outcome_is_reported_although_the_broker_was_away(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        world.bus.fail_publishes(1, DELIVERIES)
        await world.offer(1)
        await world.bus.tick()

    run(scenario)
    assert len(sink.mails) == 1
    assert set(world.outcomes()) == {("sent", None)}
    assert "unreported" not in world.messages()[0]


def test_an_outcome_that_a_dead_process_did_not_report_is_reported_by_the_timer(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1)
        await world.bus.tick()
        world.database["messages"].update_many({}, {"$set": {"unreported": True}})
        await world.bus.tick()
        await world.bus.tick()

    run(scenario)
    assert world.outcomes() == [("sent", None)] * 2
    assert len({event["id"] for event in world.bus.events(DELIVERIES)}) == 1
    assert len({str(event) for event in world.bus.events(DELIVERIES)}) == 1
