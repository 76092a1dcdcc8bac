"""A worker that is killed again and again in the middle of its work loses no point and gives none twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from pymongo import MongoClient

from shared.contracts.envelope import envelope
from shared.contracts.topics import CUSTOMER_EVENTS, LOYALTY
from shared.streaming.publisher import KafkaPublisher
from shared.streaming.records import Message, Position, origin_header
from stack.process import free_port
from tests.campaigns.world import NOON, bought, profile, refunded

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
EVENT_COUNT = 8_000
KILLS = 3
SOURCE = "killed-worker"
RUN = "from shared.runtime import run; run('services.campaigns.app', 'all')"


class EmptyTimeline(BaseHTTPRequestHandler):
    """Identity's answer while its timeline is empty."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"committed": []}\n{"end": 0}\n')

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@contextmanager
def identity() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), EmptyTimeline)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def message(number: int) -> Message:
    make = refunded if number % 10 == 0 else bought
    id, data, at = make(f"e{number}", number, NOON + timedelta(seconds=number))
    value = envelope(data, id=id, source=SOURCE, time=at).model_dump_json().encode()
    return Message(profile(number % 97).encode(), value, (origin_header(Position("purchases-id", 0, number), 0),))


def points(number: int) -> int:
    return -(number // 100) if number % 10 == 0 else number // 100


async def publish(bootstrap_servers: str) -> None:
    publisher = KafkaPublisher(bootstrap_servers)
    await publisher.start()
    try:
        await publisher.publish(CUSTOMER_EVENTS, [message(number) for number in range(EVENT_COUNT)])
    finally:
        await publisher.stop()


def until(what: str, holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def has(ledger: Any, count: int) -> bool:
    return bool(ledger.count_documents({"cause_source": SOURCE}) >= count)


def _data(record: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(record.value)["data"]
    return data


async def causes_told(bootstrap_servers: str) -> set[str]:
    """The causes of all points posted."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(LOYALTY.name, partition) for partition in range(LOYALTY.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        told: set[str] = set()
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                told |= {data["cause_id"] for data in map(_data, records) if data["cause_source"] == SOURCE}
        return told
    finally:
        await consumer.stop()


def test_a_killed_worker_leaves_one_entry_per_cause(broker: str, database: str, tmp_path: Path) -> None:
    client: MongoClient[Any] = MongoClient(database)
    client.drop_database("campaigns")
    ledger = client["campaigns"]["ledger"]
    anyio.run(publish, broker)
    log = (tmp_path / "worker.log").open("wb")
    with identity() as identity_url:
        told = {"KAFKA_BOOTSTRAP_SERVERS": broker, "MONGODB_URI": database, "DEAR_PORT": str(free_port()), "DEAR_DATA_DIR": str(tmp_path)}
        environment = {**os.environ, **told, "DEAR_CLOCK": "replay", "DEAR_IDENTITY_URL": identity_url, "DEAR_SESSION_SECONDS": "2"}
        for kill in range(1, KILLS + 1):
            worker = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, env=environment, stdout=log, stderr=log)
            try:
                until("entries", partial(has, ledger, kill * EVENT_COUNT // (KILLS + 1)))
            finally:
                worker.kill()
                worker.wait()
        # Nobody starts the last one again: it must not leave because the machine stood still for a moment.
        patient = {**environment, "DEAR_SESSION_SECONDS": "15"}
        worker = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, env=patient, stdout=log, stderr=log)
        try:
            until("the last entry", partial(has, ledger, EVENT_COUNT))
            # Entries that a killed worker wrote are told when their events come again.
            until("the last news", lambda: len(anyio.run(causes_told, broker)) >= EVENT_COUNT)
        finally:
            worker.terminate()
            assert worker.wait(30) == 0, (tmp_path / "worker.log").read_text()[-3000:]
    entries = list(ledger.find({"cause_source": SOURCE}))
    assert len(entries) == EVENT_COUNT
    assert {entry["cause_id"]: entry["points"] for entry in entries} == {f"e{number}": points(number) for number in range(EVENT_COUNT)}
    assert "Traceback" not in (tmp_path / "worker.log").read_text()
    client.close()
