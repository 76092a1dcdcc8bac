"""The embedded parts come up, keep what they promise to keep, and write nowhere else."""

import smtplib
import threading
import time
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from shared.contracts.topics import PURCHASES
from shared.kafka_admin import apply_topics, describe, topic_ids
from stack import embedded
from stack.embedded import Broker, Database, EmbeddedMissing, MailSink
from stack.http import ask
from stack.process import ProcessFailed, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture
def running(tmp_path):
    parts = []

    def start(part):
        parts.append(part)
        part.start()
        return part

    yield start
    for part in parts:
        part.kill()


def test_the_database_keeps_what_it_acknowledged_when_it_is_killed(tmp_path, running):
    database = running(Database(tmp_path, free_port()))
    acknowledged = []

    def write():
        with MongoClient(database.uri, w="majority", serverSelectionTimeoutMS=500, retryWrites=False) as client, suppress(PyMongoError):
            for first in range(0, 10**9, 20):
                client.test.things.insert_many([{"_id": number} for number in range(first, first + 20)])
                client.test.counters.update_one({"_id": "last"}, {"$set": {"first": first}}, upsert=True)
                acknowledged.append(first)

    writer = threading.Thread(target=write)
    writer.start()
    deadline = time.monotonic() + 60
    while len(acknowledged) < 200:
        assert writer.is_alive(), "the writer gave up before anything was killed"
        assert time.monotonic() < deadline, len(acknowledged)
        time.sleep(0.01)
    database.kill()
    writer.join()
    database.start()
    with MongoClient(database.uri) as client:
        found = {document["_id"] for document in client.test.things.find()}
        assert client.test.counters.find_one()["first"] >= acknowledged[-1]
    assert found >= {first + number for first in acknowledged for number in range(20)}


def test_the_broker_forgets_everything_when_it_is_killed_and_its_topics_have_new_ids(tmp_path, running):
    broker = running(Broker(tmp_path, free_port()))
    apply_topics(broker.bootstrap_servers, [PURCHASES])
    before = topic_ids(broker.bootstrap_servers)
    broker.kill()
    broker.start()
    assert describe(broker.bootstrap_servers) == {}
    apply_topics(broker.bootstrap_servers, [PURCHASES])
    assert topic_ids(broker.bootstrap_servers).keys() == before.keys()
    assert topic_ids(broker.bootstrap_servers) != before


def test_mail_is_taken_and_shown(tmp_path, running):
    sink = running(MailSink(tmp_path, free_port(), free_port()))
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "สวัสดี", "shop@example.com", "somebody@example.com"
    message.set_content("hello")
    with smtplib.SMTP("127.0.0.1", sink.port) as smtp:
        smtp.send_message(message)
    [mail] = ask(f"{sink.url}/messages?to=somebody@example.com")["messages"]
    assert mail["subject"] == "สวัสดี"
    assert ask(f"{sink.url}/messages/{mail['number']}")["text"].strip() == "hello"


def test_nothing_is_written_outside_the_data_directory(tmp_path, monkeypatch, running):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    data = tmp_path / "data"
    for part in (Broker(data, free_port()), Database(data, free_port()), MailSink(data, free_port(), free_port())):
        running(part).stop()
    assert list(home.iterdir()) == []
    assert list(here.iterdir()) == []


def test_a_taken_port_is_named(tmp_path, running):
    first = running(Broker(tmp_path, free_port()))
    with pytest.raises(ProcessFailed, match=rf"(?s){first.port}.*--port-base"):
        Broker(tmp_path, first.port).start()


def test_a_binary_that_may_not_be_executed_is_copied_into_the_data_directory(tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "bin").mkdir(parents=True)
    binary = package / "bin" / "tansu"
    binary.write_bytes(b"#!/bin/sh\n")
    binary.chmod(0o644)
    monkeypatch.setattr(embedded.resources, "files", lambda name: package)
    monkeypatch.delenv("CALF_TANSU_BIN", raising=False)
    copy = embedded.broker_binary(tmp_path / "data")
    assert copy == tmp_path / "data" / "bin" / "tansu"
    assert copy.stat().st_mode & 0o111
    assert not binary.stat().st_mode & 0o111


def test_a_missing_extra_is_told_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    monkeypatch.delenv("CALF_TANSU_BIN", raising=False)
    with pytest.raises(EmbeddedMissing, match=r"make install.*KAFKA_BOOTSTRAP_SERVERS"):
        embedded.broker_binary(Path(tmp_path))
    with pytest.raises(EmbeddedMissing, match="MONGODB_URI"):
        Database(tmp_path, 1)
