"""Three thousand real baskets through the whole system: exact when every service is killed on the way, when repeated, and after a restart.

The tests build on each other, in the order in which they are written.
"""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import asdict

import pytest

from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS, PURCHASES
from shared.kafka_admin import sender
from stack import dead_letters
from stack.demo.history import complete_journey
from stack.demo.quiet import has_passed, wait_until_quiet
from stack.demo.report import Replayed, collect, differences, is_decided, is_known
from stack.demo.run import pass_a_day
from stack.demo.tills import Tills, introduce
from stack.http import ServiceAway, ask
from tests.conftest import TEST_BROKER

pytestmark = pytest.mark.e2e

BASKETS = 3000
PATIENCE_SECONDS = 120


REPORT_KEYS = (
    "purchases", "lines", "customers", "bought_minor", "refunded_minor", "coupon_redemptions", "parked", "ledger_sum", "ledger_balance",
    "offers", "segments", "worth_saving", "seconds", "events_per_second", "latency_ms",
)  # fmt: skip


@pytest.fixture(scope="module")
def history():
    return complete_journey(BASKETS)


@pytest.fixture(scope="module")
def up(system):
    return system.start()


def told(system, up, replayed):
    """The report, once nothing moves any more."""
    wait_until_quiet(up, PATIENCE_SECONDS)
    return collect(up, replayed).json


def opened(system, letters):
    return dead_letters.keys_at(system.supervisor.directory.path).open(letters)


def until(is_so, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.1)


def test_totals_are_exact_when_every_service_is_killed_at_once_on_the_way(system, up, history):
    introduce(up, history)
    wait_until_quiet(up, PATIENCE_SECONDS, also=lambda: is_known(up, len(history.people)))
    killed = {}

    def kill_all(progress):
        if not killed and progress.landed > BASKETS // 4:
            killed.update(system.pids())
            for pid in killed.values():
                os.kill(pid, signal.SIGKILL)

    tills = Tills(up, history)
    tills.replay(kill_all)

    report = told(system, up, Replayed(len(history.moments), 1.0, tills.flight.latencies_ms))
    assert len(killed) == 4
    assert not set(killed.values()) & set(system.pids().values())
    assert differences(report, asdict(history.expected())) == [], system.last_words()
    # A ledger entry that is told while its worker dies is told again, and measured once, if at all.
    assert 0.95 * BASKETS <= len(tills.flight.latencies_ms) <= BASKETS
    assert tuple(report) == REPORT_KEYS
    assert tuple(report["offers"]) == ("total", "held_out", "sent", "failed", "unknown", "pending", "suppressed")
    assert tuple(report["latency_ms"]) == ("p50", "p99")
    assert len(report["worth_saving"]) == 10
    for row in report["worth_saving"]:
        assert tuple(row) == ("customer", "reference", "risk", "value_at_risk_minor", "reasons")
        assert len(row["reasons"]) == 2


def test_sending_everything_again_changes_nothing(system, up, history):
    before = ask(f"{up['services']['identity']}/v1/outcomes")
    tills = Tills(up, history)
    introduce(up, history)
    tills.replay()

    report = told(system, up, Replayed(len(history.moments), 1.0, tills.flight.latencies_ms))
    assert differences(report, asdict(history.expected())) == []
    after = ask(f"{up['services']['identity']}/v1/outcomes")
    assert after["accepted"] == before["accepted"]
    assert after["repeated"] - before["repeated"] == len(history.moments) + len(history.people)
    assert tills.flight.latencies_ms == []


def test_a_day_decides_what_waited_for_the_morning(system, up, history):
    # A message that was being sent when its process was killed is decided when its lease ends.
    pass_a_day(up, PATIENCE_SECONDS)
    offers = ask(f"{up['services']['campaigns']}/v1/reports/offers")
    assert offers["pending"] == 0
    assert offers["sent"] > 0
    assert offers["held_out"] > 0
    mails = ask(f"{up['mail']}/messages?limit=1000")
    # What was being sent when the process was killed is `unknown`: it may have arrived, and is never sent again.
    assert offers["sent"] <= mails["received"] <= offers["sent"] + offers["unknown"]
    assert max(Counter((*mail["to"], mail["subject"]) for mail in mails["messages"]).values()) == 1
    assert offers["total"] == sum(offers[name] for name in ("held_out", "sent", "failed", "unknown")) + sum(offers["suppressed"].values())
    # Each mail happened to its reader, once, although the process that told of it was killed; and it is nothing that they redeemed.
    totals = ask(f"{up['services']['segmentation']}/v1/totals")
    redeemed = history.expected().coupon_redemptions
    assert (totals["coupon_redemptions"], totals["interactions"]) == (redeemed, redeemed + offers["sent"])
    assert ask(f"{up['services']['identity']}/v1/outcomes?topic={PURCHASES.name}")["accepted"] == BASKETS
    assert ask(f"{up['services']['identity']}/v1/outcomes")["quarantined"] == 0


def sale(number, **data):
    body = {
        "specversion": "1.0", "id": f"sale-{number}", "source": "test-till",
        "type": "dear.PurchaseRecorded", "time": "2017-01-10T10:00:00Z",
        "data": {
            "reference": "loyalty_card:1", "store": "s", "currency": "USD", "lines": [{"sku": "a", "quantity": 1, "amount_minor": 100}],
        },
    }  # fmt: skip
    body["data"] |= data
    return body


def without(body, *path):
    inner = body
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    return body


BAD = {
    "malformed_json": b'{"specversion": "1.0", ',
    "missing_reference": json.dumps(without(sale(1), "data", "reference")).encode(),
    "negative_amount": json.dumps(sale(2, lines=[{"sku": "a", "quantity": 1, "amount_minor": -1}])).encode(),
    "unknown_type": json.dumps({**sale(3), "type": "dear.Unheard"}).encode(),
    "oversized": json.dumps(sale(4, store="s" * 40_000)).encode(),
    "foreign_currency": json.dumps(sale(5, currency="THB")).encode(),
    "ahead_of_clock": json.dumps({**sale(6), "time": "2099-01-01T00:00:00Z"}).encode(),
}
STATUS = {"malformed_json": 400, "oversized": 413}


def post(up, body, media="application/cloudevents+json"):
    request = urllib.request.Request(f"{up['services']['identity']}/v1/events", body, {"Content-Type": media})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], json.load(error)


@pytest.mark.parametrize("reason", BAD)
def test_bad_input_over_http_is_a_problem_document(system, up, reason):
    status, media, problem = post(up, BAD[reason])
    assert (status, media) == (STATUS.get(reason, 422), "application/problem+json")
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert problem["detail"]


def test_a_bad_item_of_a_batch_does_not_reject_its_neighbours(system, up):
    before = ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["ledger_sum"]
    good = [json.dumps(sale(f"http-{number}")).encode() for number in range(2)]
    whole = [BAD[reason] for reason in BAD if reason not in ("malformed_json", "oversized")]
    body = b"[" + b",".join([good[0], *whole, good[1]]) + b"]"
    status, _, answer = post(up, body, "application/cloudevents-batch+json")
    assert (status, answer["accepted"]) == (207, 2)
    assert [item["status"] for item in answer["items"]] == [202, *[422] * len(whole), 202]
    wait_until_quiet(up, PATIENCE_SECONDS)
    assert ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["ledger_sum"] == before + 2


def visit(number, **data):
    body = {"reference": "loyalty_card:1", "kind": "StoreVisited", "properties": {}} | data
    return {**sale(f"visit-{number}"), "type": "dear.InteractionRecorded", "data": body}


def form(number, **data):
    consents = [{"purpose": "marketing", "channel": "email", "granted": True}]
    return {**sale(f"form-{number}"), "type": "dear.ConsentChanged", "data": {"reference": "loyalty_card:1", "consents": consents} | data}


def bad_of(make):
    """What is wrong with an event in any topic."""
    return {
        "malformed_json": b'{"specversion": "1.0", ',
        "missing_reference": json.dumps(without(make(1), "data", "reference")).encode(),
        "unknown_type": json.dumps({**make(2), "type": "dear.Unheard"}).encode(),
        "oversized": json.dumps(make(3, more="s" * 40_000)).encode(),
        "ahead_of_clock": json.dumps({**make(4), "time": "2099-01-01T00:00:00Z"}).encode(),
        "time_out_of_range": json.dumps({**make(5), "time": "1969-12-31T23:59:59Z"}).encode(),
    }


BAD_OVER_KAFKA = {
    PURCHASES: (sale, BAD | bad_of(sale)),
    INTERACTIONS: (visit, bad_of(visit) | {"wrong_topic": json.dumps(sale(6)).encode()}),
    CUSTOMER_UPDATES: (form, bad_of(form) | {"invalid": json.dumps(form(7, consents=[])).encode()}),
}


def test_bad_input_over_kafka_is_parked_with_its_reason_and_neighbours_pass(system, up):
    before = ask(f"{up['services']['identity']}/v1/outcomes")
    points = ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["ledger_sum"]
    with sender(up["kafka"]) as out:
        for topic, (make, bad) in BAD_OVER_KAFKA.items():
            for number, each in enumerate(bad.values()):
                # One key: all in one partition, each bad one between two good ones.
                out.send(topic.name, b"loyalty_card:1", json.dumps(make(f"kafka-{number}")).encode())
                out.send(topic.name, b"loyalty_card:1", each)
            out.send(topic.name, b"loyalty_card:1", json.dumps(make("kafka-last")).encode())
    wait_until_quiet(up, PATIENCE_SECONDS)

    letters = dead_letters.parked(up["kafka"])
    expected = Counter((topic.name, reason) for topic, (_, bad) in BAD_OVER_KAFKA.items() for reason in bad)
    assert Counter((letter.topic, letter.reason) for letter in letters.values()) == expected, system.last_words()
    assert all(letter.group == "identity" and letter.sealed_base64 and letter.value_base64 is None for letter in letters.values())
    assert all(content.detail for content in opened(system, letters).values())
    good = {topic: len(bad) + 1 for topic, (_, bad) in BAD_OVER_KAFKA.items()}
    assert ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["ledger_sum"] == points + good[PURCHASES]
    after = ask(f"{up['services']['identity']}/v1/outcomes")
    assert after["parked"] == before["parked"] + len(letters)
    assert after["accepted"] == before["accepted"] + sum(good.values())


def test_a_parked_event_that_is_still_bad_when_replayed_is_parked_again_and_counts_once(system, up):
    before = ask(f"{up['services']['identity']}/v1/outcomes")
    letters = dead_letters.parked(up["kafka"])
    chosen = dead_letters.Choice(reason="negative_amount").of(letters)
    contents = opened(system, chosen)
    with sender(up["kafka"]) as out:
        dead_letters.replay(chosen, contents, out)
    until(lambda: has_passed(up["kafka"]))
    until(lambda: len(dead_letters.parked(up["kafka"])) == len(letters))
    again = dead_letters.Choice(reason="negative_amount").of(dead_letters.parked(up["kafka"]))
    assert [content.value for content in opened(system, again).values()] == [content.value for content in contents.values()]
    assert again.keys() != chosen.keys()
    assert ask(f"{up['services']['identity']}/v1/outcomes") == before


@pytest.mark.skipif(TEST_BROKER == "kafka", reason="only the embedded broker is ours to bring back")
def test_a_broker_that_dies_is_brought_back_and_everything_goes_on(system, up):
    before = ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["ledger_sum"]
    workers = system.pids()
    os.kill(system.supervisor.broker.pid, signal.SIGKILL)

    until(lambda: not set(system.pids().values()) & set(workers.values()) and len(system.pids()) == len(workers))
    wait_until_quiet(up, PATIENCE_SECONDS)
    with sender(up["kafka"]) as out:
        out.send(PURCHASES.name, b"loyalty_card:1", json.dumps(sale("after-the-broker")).encode())
    until(lambda: ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["ledger_sum"] == before + 1)
    assert any("the embedded broker left" in words for words in system.said)


def test_a_database_that_dies_is_brought_back_and_everything_goes_on(system, up):
    before = ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["ledger_sum"]
    os.kill(system.supervisor.database.pid, signal.SIGKILL)
    with sender(up["kafka"]) as out:
        out.send(PURCHASES.name, b"loyalty_card:1", json.dumps(sale("after-the-database")).encode())

    def is_there():
        try:
            return ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["ledger_sum"] == before + 1
        except ServiceAway:
            return False

    until(is_there)


def test_nothing_is_lost_when_everything_stops_and_starts_again(system, up, history):
    wait_until_quiet(up, PATIENCE_SECONDS, also=lambda: is_decided(up))
    before = collect(up, Replayed(1, 1.0, [])).json
    system.stop()
    assert not (system.data_dir / "up.json").exists()

    again = system.start()
    wait_until_quiet(again, PATIENCE_SECONDS, also=lambda: is_decided(again))
    after = collect(again, Replayed(1, 1.0, [])).json
    unchanged = ("purchases", "lines", "customers", "bought_minor", "refunded_minor", "coupon_redemptions", "ledger_sum", "ledger_balance")
    assert {key: after[key] for key in unchanged} == {key: before[key] for key in unchanged}, system.last_words()
    assert after["offers"] == before["offers"]
