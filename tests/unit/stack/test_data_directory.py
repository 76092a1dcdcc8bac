"""One user at a time, one clock for ever, and no stale address."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.data_directory import DataDirectory, InUse, NotRunning, OtherClock


def test_a_second_user_is_told_who_has_it(tmp_path):
    first, second = DataDirectory(tmp_path), DataDirectory(tmp_path)
    first.claim()

    with pytest.raises(InUse, match=str(os.getpid())):
        second.claim()


def test_it_is_free_again_after_release(tmp_path):
    first, second = DataDirectory(tmp_path), DataDirectory(tmp_path)
    first.claim()
    first.release()
    second.claim()
    second.release()


def test_a_user_that_died_holds_nothing(tmp_path):
    program = f"from pathlib import Path; from stack.data_directory import DataDirectory; DataDirectory(Path({str(tmp_path)!r})).claim()"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).resolve().parents[3])

    DataDirectory(tmp_path).claim()


def test_the_first_start_fixes_the_clock(tmp_path):
    assert DataDirectory(tmp_path).fix_clock("replay") == "replay"
    assert DataDirectory(tmp_path).fix_clock(None) == "replay"

    with pytest.raises(OtherClock, match="begun with the replay clock"):
        DataDirectory(tmp_path).fix_clock("live")


def test_the_clock_is_the_walls_unless_told_otherwise(tmp_path):
    assert DataDirectory(tmp_path).fix_clock(None) == "live"


def test_nothing_is_up_where_nothing_was_started(tmp_path):
    with pytest.raises(NotRunning, match="dear up"):
        DataDirectory(tmp_path).read_up()


def test_what_is_up_can_be_read_until_it_is_forgotten(tmp_path):
    directory = DataDirectory(tmp_path)
    directory.write_up({"kafka": "127.0.0.1:1", "supervisor_pid": os.getpid()})
    assert directory.read_up()["kafka"] == "127.0.0.1:1"

    directory.forget_up()
    with pytest.raises(NotRunning):
        directory.read_up()


def test_the_address_of_a_stack_that_died_is_not_believed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    directory = DataDirectory(tmp_path)
    directory.write_up({"supervisor_pid": dead.pid})

    with pytest.raises(NotRunning, match="has died"):
        directory.read_up()
