"""The consumers that are compared, each in a process of its own: `python -m benchmarks.peers NAME BOOTSTRAP COUNT` prints one JSON line."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from typing import Any

from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.purchases import PurchaseRecorded
from shared.contracts.topics import CUSTOMER_EVENTS, PARTITION_COUNT

NEEDED = ("id", "type", "time", "data.lines.amount_minor")


class Stopwatch:
    """Counts events from the first to the last, then says how long it took and leaves the process."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count, self.seen = name, count, 0
        self.started = self.cpu_started = 0.0

    def saw(self, events: int) -> None:
        """That many more events have had their effect."""
        if not self.seen:
            self.started, self.cpu_started = time.perf_counter(), _cpu_seconds()
            self.first = events
        self.seen += events
        if self.seen >= self.count:
            self.leave()

    def leave(self) -> None:
        """Print the figures. What was seen in the first call is not timed, so it does not count."""
        seconds, cpu = time.perf_counter() - self.started, _cpu_seconds() - self.cpu_started
        events = self.seen - self.first
        sys.stdout.write(
            json.dumps({"peer": self.name, "events": events, "seconds": seconds, "cpu_seconds": cpu, "events_per_second": events / seconds})
            + "\n"
        )
        sys.stdout.flush()
        os._exit(0)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def decode_only(bootstrap: str, watch: Stopwatch) -> None:
    """The ceiling: the same client and decoder, and nothing else."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20)
    await consumer.start()
    consumer.assign([TopicPartition(CUSTOMER_EVENTS.name, partition) for partition in range(PARTITION_COUNT)])
    decode = fast_decoder(Event[PurchaseRecorded], NEEDED).decode
    while True:
        fetched = await consumer.getmany(timeout_ms=500, max_records=5000)
        for records in fetched.values():
            for record in records:
                decode(record.value)
        if events := sum(map(len, fetched.values())):
            watch.saw(events)


def faust_table(bootstrap: str, watch: Stopwatch) -> None:
    """The way Faust's documentation teaches: an agent, one event at a time, a table."""
    import faust

    app = faust.App(
        "bench-table", broker=f"kafka://{bootstrap}", store="memory://", topic_partitions=PARTITION_COUNT, web_enabled=False,
        broker_session_timeout=6, broker_heartbeat_interval=2, consumer_auto_offset_reset="earliest", topic_disable_leader=True,
    )  # fmt: skip
    topic = app.topic(CUSTOMER_EVENTS.name, value_type=bytes, value_serializer="raw", key_serializer="raw", key_type=bytes)
    spend = app.Table("bench-spend", default=int, partitions=PARTITION_COUNT)
    decode = fast_decoder(Event[PurchaseRecorded], NEEDED).decode

    @app.agent(topic)
    async def purchases(stream: Any) -> None:
        async for key, value in stream.items():
            event = decode(value)
            spend[key.decode()] += sum(line.amount_minor for line in event.data.lines)
            watch.saw(1)

    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


def main() -> None:
    """Run one peer until it has seen everything."""
    name, bootstrap, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    watch = Stopwatch(name, count)
    if name == "decode-only":
        asyncio.run(decode_only(bootstrap, watch))
    elif name == "faust-table":
        faust_table(bootstrap, watch)
    else:
        from benchmarks import ours

        ours.run(name, watch)


if __name__ == "__main__":
    main()
