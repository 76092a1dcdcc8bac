"""Topics, offsets, sending and dead letters on a real broker."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from shared.contracts.envelope import envelope
from shared.contracts.topics import DEAD_LETTERS, INTERACTIONS, PRODUCTS, PURCHASES, TOPICS, Topic
from shared.kafka_admin import (
    BrokerAway,
    TopicsDiffer,
    apply_topics,
    check_topics,
    describe,
    end_offsets,
    group_lag,
    read_topic,
    sender,
    topic_ids,
    wait_for_broker,
)
from stack import dead_letters
from tests.unit.stack.test_dead_letters import letter

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


def fresh(topic: Topic, **changes) -> Topic:
    """A topic of its own for a test."""
    return replace(topic, name=f"test-{uuid4().hex[:12]}", **changes)


def dear(*arguments: str, expect: int = 0) -> str:
    ran = subprocess.run([sys.executable, "-m", "stack.cli", *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert ran.returncode == expect, ran.stderr
    return ran.stdout


def test_topics_are_created_once_and_agree_afterwards(broker):
    topics = [fresh(PURCHASES), fresh(DEAD_LETTERS)]
    assert [verdict.verdict for verdict in apply_topics(broker, topics)] == ["created", "created"]
    assert [verdict.verdict for verdict in apply_topics(broker, topics)] == ["agrees", "agrees"]
    assert describe(broker)[topics[0].name]["partitions"] == 8


def test_another_partition_count_is_not_changed_but_told(broker):
    topic = fresh(PURCHASES)
    apply_topics(broker, [replace(topic, partitions=4)])
    verdicts = apply_topics(broker, [topic])
    assert verdicts[0].verdict == "differs"
    with pytest.raises(TopicsDiffer, match=r"has 4 partitions, the map says 8.*next version"):
        check_topics(verdicts)
    assert describe(broker)[topic.name]["partitions"] == 4


def test_every_topic_of_the_map_has_an_id_of_its_own(broker):
    ids = topic_ids(broker)
    assert ids.keys() == {topic.name for topic in TOPICS}
    assert len(set(ids.values())) == len(TOPICS)


def test_the_end_is_right_after_batches_of_any_size(broker):
    topic = fresh(PURCHASES, partitions=1)
    apply_topics(broker, [topic])
    assert end_offsets(broker, [topic]) == {(topic.name, 0): 0}
    sent = 0
    for count in (1, 10, 1, 300):
        with sender(broker) as out:
            for number in range(count):
                out.send(topic.name, b"key", b"%d" % number)
        sent += count
        assert end_offsets(broker, [topic]) == {(topic.name, 0): sent}
    assert group_lag(broker, "test-nobody", [topic]) == sent


def test_what_is_sent_can_be_read_as_it_was(broker):
    topic = fresh(PURCHASES)
    apply_topics(broker, [topic])
    sent = {(b"k%d" % number, b"v%d" % number) for number in range(1000)}
    with sender(broker) as out:
        for key, value in sent:
            out.send(topic.name, key, value, headers=[("name", b"\xff")])
    found = [item.record for item in read_topic(broker, topic)]
    assert {(record.key, record.value) for record in found} == sent
    assert len(found) == 1000
    assert {tuple(record.headers) for record in found} == {(("name", b"\xff"),)}


def test_a_broker_that_is_not_there_is_told(free_port):
    with pytest.raises(BrokerAway, match=str(free_port)):
        wait_for_broker(f"127.0.0.1:{free_port}", timeout_seconds=0.5)


def test_the_command_applies_and_lists_the_map(broker):
    assert {verdict["verdict"] for verdict in json.loads(dear("topics", "apply", "--kafka", broker, "--json"))} == {"agrees"}
    assert [row["topic"] for row in json.loads(dear("topics", "list", "--kafka", broker, "--json"))] == [topic.name for topic in TOPICS]


def test_the_command_sends_a_file_and_gives_a_verdict_for_each_line(broker, tmp_path):
    product = {"sku": uuid4().hex, "name": "tea", "category": None}
    good = {
        "specversion": "1.0",
        "id": "1",
        "source": "test",
        "type": "dear.ProductPublished",
        "time": "2026-01-01T00:00:00Z",
        "data": product,
    }
    file = tmp_path / "events.ndjson"
    file.write_text(f"{json.dumps(good)}\nnonsense\n")
    verdicts = [json.loads(line) for line in dear("events", "send", str(file), "--kafka", broker, "--json", expect=1).splitlines()]
    assert [verdict["accepted"] for verdict in verdicts] == [True, False]
    assert product["sku"].encode() in {item.record.key for item in read_topic(broker, PRODUCTS)}


def park(broker: str, name: str, offset: int, topic: Topic) -> None:
    parked = letter(offset).model_copy(update={"topic": topic.name})
    event = envelope(parked, id=name, source="test", time=parked.parked_at)
    with sender(broker) as out:
        out.send(DEAD_LETTERS.name, name.encode(), event.model_dump_json().encode())


def test_a_parked_record_can_be_listed_shown_replayed_and_is_gone_then(broker):
    target = fresh(INTERACTIONS)
    apply_topics(broker, [target])
    name = f"identity/{uuid4()}/3/7"
    park(broker, name, 7, target)

    assert name in dear("dead-letters", "list", "--kafka", broker)
    shown = json.loads(dear("dead-letters", "show", name, "--kafka", broker))
    assert (shown["letter"], shown["key"], shown["reason"]) == (name, "key", "invalid")

    assert json.loads(dear("dead-letters", "replay", name, "--kafka", broker, "--json")) == {"replayed": [name]}
    assert name not in dead_letters.parked(broker)
    [replayed] = read_topic(broker, target)
    assert (replayed.partition, replayed.record.key, replayed.record.value) == (3, b"key", b"\xff value")
    assert list(replayed.record.headers) == [("dear-replay-group", b"identity"), ("dear-replay-of", b"t/3/7")]


def test_a_parked_record_can_be_given_up(broker):
    name = f"identity/{uuid4()}/3/8"
    park(broker, name, 8, fresh(PURCHASES))
    assert dear("dead-letters", "purge", name, "--kafka", broker) == "1 purged\n"
    assert name not in dead_letters.parked(broker)


def test_a_letter_that_is_not_there_is_one_line(broker):
    dear("dead-letters", "show", "identity/none/0/0", "--kafka", broker, expect=1)
