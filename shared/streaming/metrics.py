"""Every metric of the stream loop."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LAG_MESSAGES = Gauge("dear_stream_lag_messages", "Records of a partition that are not settled yet.", ["topic", "partition"])
LAG_SECONDS = Gauge(
    "dear_stream_lag_seconds", "Age of a partition's oldest record that is not settled; 0 when idle.", ["topic", "partition"]
)
BATCHES = Counter("dear_stream_batches_total", "Batches settled.", ["topic"])
EVENTS = Counter("dear_stream_events_total", "Events settled, parked ones included.", ["topic"])
PUBLISHED = Counter("dear_stream_published_total", "Messages that the broker acknowledged.", ["topic"])
DEAD_LETTERS = Counter("dear_dead_letters_total", "Events parked.", ["topic", "reason"])
EXPIRED = Counter("dear_stream_expired_total", "Records that retention removed before the group had read them.", ["topic"])
RETRIES = Counter("dear_stream_retries_total", "Attempts that failed and were repeated.", ["reason"])
HANDLER_SECONDS = Histogram(
    "dear_stream_handler_seconds",
    "Time that a handler took for a batch.",
    ["topic"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
TIMER_SECONDS = Histogram("dear_stream_timer_seconds", "Time that one run of a timer took.", buckets=(0.001, 0.01, 0.05, 0.1, 0.5, 1, 10))
OPENING = Gauge("dear_stream_partitions_opening", "Assigned partitions whose state is not recovered yet.")
READY = Gauge("dear_ready", "1 while the process can take work, 0 while it waits for something.")
