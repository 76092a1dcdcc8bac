"""Every metric of identity."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_AGES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0, 3600.0, 86400.0, 604800.0)

RECEIVED = Counter("dear_events_received_total", "Events that identity read from the source topics.", ["topic"])
REJECTED = Counter("dear_events_rejected_total", "Events refused, at the edge or in the stream.", ["reason", "where"])
DUPLICATES = Counter("dear_events_duplicates_total", "Events redelivered by the broker or repeated by the source.", ["kind"])
QUARANTINED = Counter("dear_events_quarantined_total", "Events that came with another body under a name that was taken.")
LOST = Counter("dear_events_lost_total", "Events that retention removed from a source topic before they were read.")
ERASED_LATE = Counter("dear_events_erased_total", "Events of somebody who was erased, which came after that and were not taken in.")
ANONYMOUS = Counter("dear_events_anonymous_total", "Accepted events that name nobody.")
MERGES_REFUSED = Counter("dear_merges_refused_total", "References that led to no merge, and requests refused, by rule.", ["rule"])
MERGES = Counter(
    "dear_merges_total", "Decisions that merged profiles into one customer, split or erased them, by rule.", ["action", "rule"]
)
REFERENCES_DROPPED = Counter("dear_references_dropped_total", "References of accepted events that name nobody, by rule.", ["rule"])
CUSTOMERS_PUBLISHED = Counter("dear_customers_published_total", "Customers published, repeats included.")
RESOLVE_SECONDS = Histogram("dear_resolve_seconds", "Time to find the profiles of one batch.", buckets=_SECONDS)
TIMELINE_SECONDS = Histogram("dear_timeline_insert_seconds", "Time to put one batch into the timeline.", buckets=_SECONDS)
ACCEPTED_TO_KEPT_SECONDS = Histogram("dear_accepted_to_kept_seconds", "From the broker's append to kept and passed on.", buckets=_AGES)
OCCURRED_TO_KEPT_SECONDS = Histogram("dear_occurred_to_kept_seconds", "From the event's own time to kept and passed on.", buckets=_AGES)
IGNORED = Counter("dear_events_ignored_total", "Messages that the edge understood and that change nothing, by reason.", ["reason"])
WAITING = Gauge("dear_ingest_waiting_events", "Events that wait for the broker in this process.")
INGESTED = Counter("dear_ingest_requests_total", "Requests to the ingest edge, by way in and by answer.", ["way", "status"])
PRIVACY_DONE = Counter("dear_privacy_requests_total", "Privacy requests that were done, by kind.", ["kind"])
