"""The consumers that are compared, each in a process of its own: `python -m benchmarks.peers NAME BOOTSTRAP COUNT` prints one JSON line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from typing import Any

from benchmarks.processor import cpu_seconds
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.purchases import PurchaseRecorded
from shared.contracts.topics import CUSTOMER_EVENTS, PARTITION_COUNT

NEEDED = ("id", "type", "time", "data.lines.amount_minor")


Summary = list[int]
"""What a plain peer keeps of a customer: purchases, their sum in minor units, the newest day."""


class Stopwatch:
    """Counts events from the first to the last, then says how long it took and leaves the process."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count, self.seen = name, count, 0
        self.started = self.cpu_started = 0.0

    def saw(self, events: int) -> None:
        """That many more events have had their effect."""
        self.passed(events)
        if self.is_over:
            self.leave()

    def passed(self, events: int) -> None:
        """That many more events went through, but what they did is not safe yet."""
        if not self.seen:
            self.started, self.cpu_started = time.perf_counter(), cpu_seconds()
            self.first = events
        self.seen += events

    @property
    def is_over(self) -> bool:
        return self.seen >= self.count

    def leave(self) -> None:
        """Print the figures. What was seen in the first call is not timed, so it does not count."""
        seconds, cpu = time.perf_counter() - self.started, cpu_seconds() - self.cpu_started
        events = self.seen - self.first
        figures = {
            "peer": self.name, "events": events, "seconds": seconds, "cpu_seconds": cpu,
            "events_per_second": events / seconds, "events_per_cpu_second": events / cpu,
        }  # fmt: skip
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()
        os._exit(0)


def summed(summary: Summary, event: Any) -> Summary:
    """The customer's summary with one more purchase."""
    count, amount_minor, last_day = summary
    return [count + 1, amount_minor + sum(line.amount_minor for line in event.data.lines), max(last_day, event.time.toordinal())]


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
    customers = app.Table("bench-customers", default=lambda: [0, 0, 0], partitions=PARTITION_COUNT)
    decode = fast_decoder(Event[PurchaseRecorded], NEEDED).decode

    @app.agent(topic)
    async def purchases(stream: Any) -> None:
        async for key, value in stream.items():
            customer = key.decode()
            customers[customer] = summed(customers[customer], decode(value))
            watch.saw(1)

    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


def quix(bootstrap: str, watch: Stopwatch) -> None:
    """The way Quix Streams' documentation teaches: a streaming dataframe with state, in RocksDB and in a changelog topic.

    Time ends after the last checkpoint: the changelog is acknowledged, the offsets are committed, RocksDB has it.
    """
    from quixstreams import Application, State

    class Measured(Application):
        """Calls its own `stop` once more after the last checkpoint and before it closes its connections, which is not timed."""

        is_stopping = False

        def stop(self, fail: bool = False) -> None:
            if self.is_stopping and not fail:
                watch.leave()
            self.is_stopping = True
            super().stop(fail)

    def on_processed(*_: object) -> None:
        watch.passed(1)
        if watch.is_over:
            app.stop()

    app = Measured(
        broker_address=bootstrap, consumer_group="bench-quix", auto_offset_reset="earliest", loglevel="WARNING",
        state_dir=tempfile.mkdtemp(prefix="dear-quix-"), on_message_processed=on_processed,
        # Its documentation: longer intervals mean less writing, each changed customer once a checkpoint. Five seconds is its own default.
        commit_interval=5.0, processing_guarantee="at-least-once",
        # Not asked for every event whether the broker is there; the same fetch size as the others, librdkafka's own queues.
        broker_availability_timeout=0, consumer_extra_config={"max.partition.fetch.bytes": 4 << 20},
    )  # fmt: skip
    decode = fast_decoder(Event[PurchaseRecorded], NEEDED).decode

    def on_purchase(value: bytes, state: State) -> Summary:
        summary = summed(state.get("summary") or [0, 0, 0], decode(value))
        state.set("summary", summary)
        return summary

    purchases = app.dataframe(app.topic(CUSTOMER_EVENTS.name, value_deserializer="bytes"))
    purchases.apply(on_purchase, stateful=True)
    app.run()


def main() -> None:
    """Run one peer until it has seen everything."""
    name, bootstrap, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    watch = Stopwatch(name, count)
    if name == "decode-only":
        asyncio.run(decode_only(bootstrap, watch))
    elif name == "faust-table":
        faust_table(bootstrap, watch)
    elif name == "quix":
        quix(bootstrap, watch)
    else:
        from benchmarks import ours

        ours.run(name, watch)


if __name__ == "__main__":
    main()
