"""Every metric of segmentation."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ENTRIES = Counter("dear_segment_entries_total", "Customers who entered a segment.", ["segment"])
EXITS = Counter("dear_segment_exits_total", "Customers who left a segment.", ["segment"])
ROWS = Gauge("dear_segmentation_rows", "Profiles whose rows this worker holds.")
ROW_BYTES = Gauge("dear_segmentation_row_bytes", "Memory of all rows with their indexes.")
OPTIONAL_BYTES = Gauge("dear_segmentation_optional_bytes", "Memory of categories, interactions by kind and costs, where there are any.")
TRAIT_BYTES = Gauge("dear_segmentation_trait_bytes", "Memory of traits that rules name.")
ROWS_WRITTEN = Counter("dear_segmentation_rows_written_total", "Rows written to the changelog.")
EVENTS_APPLIED = Counter("dear_segmentation_events_applied_total", "Events that changed a row.", ["kind"])
EVENTS_SKIPPED = Counter("dear_segmentation_events_skipped_total", "Events that had taken effect before: delivered or sent again.")
CATCH_UP_REJECTS = Counter("dear_segmentation_catch_up_rejects_total", "Events of the timeline that could not be applied.")
RECOVERY_SECONDS = Histogram(
    "dear_segmentation_recovery_seconds", "Time to recover one partition.", ["way"], buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 300)
)
RESCORING_SECONDS = Histogram(
    "dear_segmentation_rescoring_seconds", "Work to re-score everyone once.", buckets=(0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10)
)
SLICE_SECONDS = Histogram(
    "dear_segmentation_rescoring_slice_seconds", "Work of one slice of re-scoring.", buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
)
SNAPSHOT_SECONDS = Histogram("dear_segmentation_snapshot_seconds", "Time to write one snapshot.", buckets=(0.01, 0.1, 0.5, 1, 5, 30))
STORE_SECONDS = Histogram("dear_segmentation_store_seconds", "Time of one write to the read model.", buckets=(0.01, 0.1, 0.5, 1, 2, 5))
STORE_WAITING = Gauge("dear_segmentation_store_waiting", "Customers whose scores the read model does not have yet.")
STORE_BEHIND_SECONDS = Gauge(
    "dear_segmentation_store_behind_seconds", "Age of the newest moment up to which the read model has every change of this worker."
)
HISTORY_POINTS = Counter("dear_segmentation_history_points_total", "Points of customers' scores written to the history.")
SCORES_WAITING = Gauge("dear_segmentation_scores_waiting", "Customers whose scores were not published yet.")
MEMBERS_WAITING = Gauge(
    "dear_segmentation_members_waiting", "Customers who were not judged in the last round: rows of their other profiles have not come."
)
REFITS = Counter("dear_scoring_model_refits_total", "Refits that this worker had made.", ["outcome"])
MODEL_AGE_SECONDS = Gauge("dear_scoring_model_age_seconds", "Time since the end of the data that the model was fitted to.")
