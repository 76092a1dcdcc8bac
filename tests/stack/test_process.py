"""A child lives, leaves, is brought down, and never outlives us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack.process import FREE_PORTS, Child, ProcessFailed, free_port, free_port_base, is_alive, is_listening

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
STUBBORN = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"]


def until(is_so, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.02)


@pytest.fixture
def child(tmp_path):
    made = []

    def make(command):
        made.append(Child("child", command, tmp_path / "logs" / "child.log"))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def test_a_child_writes_into_its_log_and_leaves_when_asked(child):
    process = child(SLEEP)
    process.start()
    process.wait_until(lambda: process.last_words() == "here", 10)

    assert process.stop()
    assert process.pid is None
    assert process.exit_code == -signal.SIGTERM


def test_a_child_that_does_not_leave_is_ended_and_that_is_said(child):
    process = child(STUBBORN)
    process.start()
    process.wait_until(lambda: process.last_words() == "here", 10)

    assert not process.stop(timeout_seconds=0.2)
    assert process.exit_code == -signal.SIGKILL


def test_a_child_that_leaves_while_starting_is_told_with_its_last_words_and_its_log(child):
    process = child([sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"])
    process.start()

    with pytest.raises(ProcessFailed, match=r"(?s)exit code 3.*no such thing.*child\.log"):
        process.wait_until(lambda: False, 10)


def test_a_child_that_is_never_ready_is_told(child):
    process = child(SLEEP)
    process.start()

    with pytest.raises(ProcessFailed, match="not ready"):
        process.wait_until(lambda: False, 0.2)


def test_a_child_can_start_again_after_it_was_killed(child):
    process = child(SLEEP)
    process.start()
    first = process.pid
    process.kill()
    process.start()

    assert process.pid not in (None, first)


def test_children_do_not_outlive_a_parent_that_was_killed(tmp_path):
    root = Path(__file__).resolve().parents[2]
    program = (
        "import sys, time; from pathlib import Path; from stack.process import Child\n"
        f"for name, command in (('soft', {SLEEP!r}), ('hard', {STUBBORN!r})):\n"
        f"    child = Child(name, command, Path({str(tmp_path)!r}) / (name + '.log')); child.start(); print(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root)
    children = [int(parent.stdout.readline()) for _ in range(2)]
    until(lambda: all((tmp_path / f"{name}.log").read_text() == "here\n" for name in ("soft", "hard")))

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    until(lambda: not any(_runs(pid) for pid in children))


def _runs(pid):
    """Alive and no zombie: where nobody reaps orphans, a dead one keeps its id."""
    stat = Path(f"/proc/{pid}/stat")
    return is_alive(pid) and not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_free_ports_are_free():
    assert not is_listening(free_port())
    base = free_port_base(9)
    assert not any(is_listening(base + i) for i in range(9))


def test_a_free_port_is_given_to_one_process_only_and_never_to_an_outgoing_connection():
    """Found free, it is used a moment later: whoever looks meanwhile must not find it, too."""
    ours = {free_port() for _ in range(20)}
    beginning_where_we_did = f"import os; os.getpid = lambda: {os.getpid()}; "
    looking = beginning_where_we_did + "from stack.process import free_port; print(*(free_port() for _ in range(20)))"
    found = subprocess.run([sys.executable, "-c", looking], check=True, capture_output=True, text=True).stdout
    theirs = {int(port) for port in found.split()}
    assert len(ours) == len(theirs) == 20
    assert not ours & theirs
    assert ours | theirs <= set(FREE_PORTS)
    lowest_outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range")
    assert not lowest_outgoing.exists() or FREE_PORTS.stop <= int(lowest_outgoing.read_text().split()[0])


def test_our_own_process_is_alive():
    assert is_alive(os.getpid())
