"""What the peers' figures say side by side: ratios, goals beside them, a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

Figures = dict[str, Any]
"""One peer's: events_per_second and events_per_cpu_second are read here."""

SAYS = {
    "decode-only": "aiokafka and msgspec, nothing else (the ceiling)",
    "faust-table": "plain Faust agent, one event at a time, with a table",
    "quix": "Quix Streams with state: RocksDB and a changelog topic",
    "faust-batched": "Dear's stream loop, each event decoded",
    "segmentation": "Dear's segmentation worker: applied, scored, durable in the changelog",
}
OURS = "segmentation"


@dataclass(frozen=True, slots=True)
class Goal:
    """What segmentation aims at on one-line purchases: so many events a second, or so many times a peer's."""

    at_least: float
    peer: str | None = None

    @property
    def name(self) -> str:
        return f"segmentation ≥ {self.at_least:g} × {self.peer}" if self.peer else f"segmentation ≥ {self.at_least:,.0f} events/s"


GOALS = (Goal(100_000), Goal(20, "faust-table"), Goal(2, "quix"), Goal(0.35, "decode-only"))


def ratios(peers: dict[str, Figures], by: str = "events_per_second") -> dict[str, float]:
    """How many times as fast ours is as each of the others; empty when ours did not run."""
    ours = peers.get(OURS)
    return {name: ours[by] / peer[by] for name, peer in peers.items() if peer is not ours} if ours else {}


def beside_goals(peers: dict[str, Figures]) -> list[dict[str, Any]]:
    """Each goal whose parties ran, with what was measured by the clock and by the processor's time."""
    if OURS not in peers:
        return []
    return [
        {
            "goal": goal.name,
            "at_least": goal.at_least,
            "measured": (by_clock := _measured(goal, peers, "events_per_second")),
            "measured_by_cpu": _measured(goal, peers, "events_per_cpu_second"),
            "reached": by_clock >= goal.at_least,
        }
        for goal in GOALS
        if goal.peer is None or goal.peer in peers
    ]


def _measured(goal: Goal, peers: dict[str, Figures], by: str) -> float:
    return float(peers[OURS][by]) if goal.peer is None else ratios(peers, by)[goal.peer]


def peers_table(title: str, peers: dict[str, Figures], skipped: dict[str, str]) -> Table:
    """One line a peer, and below what each is or why it was skipped."""
    legend = "\n".join(f"{name}: {skipped.get(name, SAYS[name])}" for name in (*peers, *skipped))
    table = Table(
        "consumer", "events/s", "segmentation is", "CPU s", "events/CPU s", "segmentation is",
        title=title, caption=legend, caption_justify="left",
    )  # fmt: skip
    by_clock, by_cpu = ratios(peers), ratios(peers, "events_per_cpu_second")
    for name, peer in peers.items():
        table.add_row(
            name,
            f"{peer['events_per_second']:,.0f}",
            _times(by_clock.get(name)),
            f"{peer['cpu_seconds']:.2f}",
            f"{peer['events_per_cpu_second']:,.0f}",
            _times(by_cpu.get(name)),
        )
    for name in skipped:
        table.add_row(name, "skipped")
    return table


def goals_table(goals: list[dict[str, Any]]) -> Table:
    """One line a goal."""
    table = Table("goal", "measured", "by CPU time", "reached", title="goals for one-line purchases")
    for goal in goals:
        digits = ",.0f" if goal["at_least"] >= 1000 else ".2f"
        table.add_row(
            goal["goal"], format(goal["measured"], digits), format(goal["measured_by_cpu"], digits), "yes" if goal["reached"] else "not yet"
        )
    return table


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} ×"
