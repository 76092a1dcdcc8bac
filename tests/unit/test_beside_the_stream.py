"""Long work does not hold up the stream, runs once at a time, and does not fail in silence."""

from __future__ import annotations

import asyncio

import pytest

from shared.beside import BesideTheStream

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_starting_returns_at_once_and_two_never_run_together() -> None:
    going, started = asyncio.Event(), 0

    async def work() -> None:
        nonlocal started
        started += 1
        await going.wait()

    beside = BesideTheStream(work)
    for _ in range(3):
        await beside.start()
        await asyncio.sleep(0)
    assert started == 1
    going.set()
    await beside.stop()
    await beside.start()
    await beside.stop()
    assert started == 2


async def test_a_failure_is_raised_by_the_next_start_which_tries_again() -> None:
    outcomes = iter([RuntimeError("full"), None])
    tried = 0

    async def work() -> None:
        nonlocal tried
        tried += 1
        if (outcome := next(outcomes)) is not None:
            raise outcome

    beside = BesideTheStream(work)
    await beside.start()
    await beside.stop()
    with pytest.raises(RuntimeError, match="full"):
        await beside.start()
    await beside.stop()
    assert tried == 2
