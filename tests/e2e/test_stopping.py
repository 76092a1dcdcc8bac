"""A stop in the middle of business: what was accepted is kept, what cannot be kept is refused, what is left is said."""

import json
import threading
import urllib.error
import urllib.request

import pytest
from pymongo import MongoClient

from shared.contracts.topics import PURCHASES
from shared.kafka_admin import BrokerAway, KafkaAdminError, sender
from stack import supervisor as supervising
from stack.embedded import Database
from stack.process import free_port
from tests.conftest import TEST_BROKER

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(TEST_BROKER == "kafka", reason="only the embedded broker's log ends with it")]
BATCH = 20


def sale(id):
    line = {"sku": "a", "quantity": 1, "amount_minor": 100}
    data = {"reference": f"loyalty_card:{id}", "store": "s", "currency": "USD", "lines": [line]}
    named = {"specversion": "1.0", "id": id, "source": "test-till", "time": "2017-01-10T10:00:00Z"}
    return {**named, "type": "dear.PurchaseRecorded", "data": data}


class WebShop(threading.Thread):
    """Sends sales until nobody answers any more, and notes what became of each."""

    def __init__(self, url, name):
        super().__init__(daemon=True)
        self._url, self._name = url, name
        self.accepted, self.refused = [], []

    def run(self):
        for number in range(10**6):
            ids = [f"{self._name}-{number}-{each}" for each in range(BATCH)]
            body = json.dumps([sale(id) for id in ids]).encode()
            request = urllib.request.Request(f"{self._url}/v1/events", body, {"Content-Type": "application/cloudevents-batch+json"})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    items = json.load(answer)["items"]
                    self.accepted += [id for id, item in zip(ids, items, strict=True) if item["status"] == 202]
            except urllib.error.HTTPError as error:
                self.refused.append((error.code, error.headers["Retry-After"]))
                if len(self.refused) > 200:
                    return
            except OSError:
                return


def kept(data_dir):
    """Ids in the timeline of a data directory in which nothing runs."""
    database = Database(data_dir, free_port())
    database.start()
    try:
        with MongoClient(database.uri) as client:
            return {document["_id"].partition("\x1f")[2] for document in client.identity.timeline.find({}, {"_id": 1})}
    finally:
        database.stop()


def test_what_a_web_shop_was_told_is_accepted_is_in_the_timeline_after_a_stop(system):
    up = system.start()
    shops = [WebShop(up["services"]["identity"], f"shop{number}") for number in range(4)]
    for shop in shops:
        shop.start()
    while min(len(shop.accepted) for shop in shops) < 5 * BATCH:
        assert any(shop.is_alive() for shop in shops)
        shops[0].join(0.05)
    system.stop()
    for shop in shops:
        shop.join(60)
    accepted = {id for shop in shops for id in shop.accepted}
    assert accepted <= kept(system.data_dir), (len(accepted - kept(system.data_dir)), system.said)
    refused = {answer for shop in shops for answer in shop.refused}
    assert refused == {(503, "1")}
    assert not any("go with" in words for words in system.said)


def test_what_a_till_wrote_too_late_is_counted(system, monkeypatch):
    """A till writes to the broker itself, between the last look at the log and the end of the services."""
    up = system.start()
    drain, lost = supervising.Supervisor._drain, []

    def drain_and_sell(this):
        drain(this)
        # Nobody reads any more, as after the last batch of a worker that is leaving.
        for life in this.services.values():
            life.child.kill()
        with sender(up["kafka"]) as out:
            for number in range(7):
                out.send(PURCHASES.name, f"late-{number}".encode(), json.dumps(sale(f"late-{number}")).encode())
                lost.append(number)

    monkeypatch.setattr(supervising.Supervisor, "_drain", drain_and_sell)
    system.stop()
    assert len(lost) == 7
    assert [words for words in system.said if words.startswith("up to 7 accepted events")], system.said


def test_a_broker_that_does_not_say_what_is_left_is_not_taken_for_empty(tmp_path, monkeypatch):
    def away(*_):
        raise BrokerAway("no answer")

    monkeypatch.setattr("shared.kafka_admin.group_lag", away)
    said = []
    stopping = supervising.Supervisor(supervising.Options(tmp_path), said.append)
    stopping.broker = object()
    assert stopping._accepted_but_not_kept() is None
    stopping._say_what_is_left()
    assert [words for words in said if "does not say" in words]
    assert issubclass(BrokerAway, KafkaAdminError)
