"""How soon a part that died lives again, and when it is given up."""

import sys

import pytest

from stack.process import Child, ProcessFailed
from stack.supervisor import BACKOFF_SECONDS, QUICK_DEATH_SECONDS, QUICK_DEATHS_MAX, Life, Options, Supervisor


@pytest.fixture
def life(tmp_path):
    each = Life(Child("part", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "part.log"))
    yield each
    each.child.kill()


def test_a_part_that_dies_soon_and_often_waits_longer_each_time(life):
    life.started_at = 100.0
    waits = [life.died(101.0) for _ in range(6)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (BACKOFF_SECONDS[1], BACKOFF_SECONDS[-1])


def test_a_part_that_lived_long_comes_back_at_once(life):
    life.started_at = 100.0
    life.died(101.0)
    life.started_at = 200.0
    assert life.died(200.0 + QUICK_DEATH_SECONDS) == BACKOFF_SECONDS[0]
    assert life.quick_deaths == 0


def test_a_part_that_never_stays_alive_is_given_up_loudly(tmp_path, life):
    said = []
    supervisor = Supervisor(Options(tmp_path), said.append)
    supervisor.services["part"] = life
    life.child.log.write_text("no such setting")

    def die():
        life.start()
        life.child._process.wait()
        supervisor.watch()
        life.again_at = None

    for _ in range(QUICK_DEATHS_MAX - 1):
        die()
    with pytest.raises(ProcessFailed, match=r"(?s)part left 6 times in a row.*no such setting.*part\.log"):
        die()
    assert len(said) == QUICK_DEATHS_MAX
    assert all("exit code 3" in words for words in said)
