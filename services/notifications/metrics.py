"""All metrics of notifications."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

SENDS = Counter("dear_sends_total", "Messages whose outcome is final, by channel and outcome.", ["channel", "outcome"])
SUPPRESSIONS = Counter("dear_suppressions_total", "Messages that the gate refused for good, by reason.", ["reason"])
DEFERRALS = Counter("dear_deferrals_total", "Times that a message was put off, by reason.", ["reason"])
HAND_OVER_SECONDS = Histogram(
    "dear_offer_to_hand_over_seconds",
    "From the broker's taking an offer to the mail server's taking the mail; messages that had to wait are not counted.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
SMTP_SECONDS = Histogram(
    "dear_smtp_hand_over_seconds",
    "One hand-over to the mail server.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10),
)
UNSUBSCRIBES = Counter("dear_unsubscribes_total", "Customers who ended marketing by the link in a mail.")
MAIL_INTERACTIONS = Counter("dear_mail_interactions_total", "Interactions published, by kind; repeats after a crash included.", ["kind"])
RESPONSES = Counter("dear_mail_responses_total", "What readers did with mails, by kind, and what came of it.", ["kind", "outcome"])
