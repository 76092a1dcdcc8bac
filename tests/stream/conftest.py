"""A worker that leaves its process may not take the tests with it."""

from __future__ import annotations

import pytest

from shared.streaming import leaving


class Left(AssertionError):
    """The loop left the process."""


@pytest.fixture(autouse=True)
def _stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def stay(code: int) -> None:
        raise Left(f"exit code {code}")

    monkeypatch.setattr(leaving.os, "_exit", stay)
