"""The progress bar of the replay: how many landed, how fast, how much money, and what day it is in the shop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from stack.demo import tills
from stack.demo.history import History

REFRESH_SECONDS = 0.1
LINE_EVERY_SECONDS = 10.0


@contextmanager
def shown_progress(history: History) -> Iterator[Callable[[tills.Progress], None]]:
    """Show a bar on a terminal, and now and then a line where there is none."""
    counter = _Counter(history)
    columns = (
        SpinnerColumn(), TextColumn("{task.fields[day]}"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[landed]} purchases  {task.fields[speed]}/s  {task.fields[money]}"), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("replay", total=counter.total, **counter.fields())

        def show(progress: tills.Progress) -> None:
            if counter.is_due():
                counter.take(progress)
                bar.update(task, completed=progress.landed, **counter.fields())
                if bar.disable:
                    counter.print_line()

        yield show
        bar.update(task, completed=counter.total, **counter.fields())


class _Counter:
    """What the bar says."""

    def __init__(self, history: History) -> None:
        purchases = [moment for moment in history.moments if moment.is_purchase]
        self.total = len(purchases)
        self._money = [0]
        for moment in purchases:
            self._money.append(self._money[-1] + moment.amount_minor)
        self._began = time.monotonic()
        self._shown_at = self._line_at = 0.0
        self._landed = 0
        self._day = ""

    def is_due(self) -> bool:
        """Is it time to show something?"""
        return time.monotonic() - self._shown_at >= REFRESH_SECONDS

    def take(self, progress: tills.Progress) -> None:
        """The replay is there now."""
        self._shown_at = time.monotonic()
        self._landed = progress.landed
        self._day = f"{progress.moment.at:%a %d %b %Y}"

    def fields(self) -> dict[str, Any]:
        """The texts of the bar."""
        seconds = max(0.001, time.monotonic() - self._began)
        money = self._money[min(self._landed, self.total)] / 100
        return {"day": self._day, "landed": f"{self._landed:,}", "speed": f"{self._landed / seconds:,.0f}", "money": f"${money:,.2f}"}

    def print_line(self) -> None:
        """For logs: a line every few seconds."""
        if time.monotonic() - self._line_at >= LINE_EVERY_SECONDS:
            self._line_at = time.monotonic()
            text = self.fields()
            sys.stderr.write(f"dear: {text['day']}  {text['landed']} of {self.total:,} purchases  {text['speed']}/s  {text['money']}\n")
            sys.stderr.flush()
