"""The command line: every command explains itself, mistakes get one line and an exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from stack.cli import app
from stack.clocks import parse_duration
from stack.ports import PORT_COUNT, Ports, ports_from

ROOT = Path(__file__).resolve().parents[2]


def dear(*arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in ("KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI")}
    command = [sys.executable, "-m", "stack.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**clean, **environment}, timeout=60, check=False)


def commands(command, path=()):
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def test_every_command_says_what_it_does():
    assert [path for path, command in commands(get_command(app)) if not (command.help or "").strip()] == []


def test_every_service_and_role_has_a_command():
    known = {path for path, _ in commands(get_command(app))}
    services = ("identity", "segmentation", "campaigns", "notifications")
    assert {(service, role) for service in services for role in ("api", "worker", "all")} <= known


def test_help_imports_no_client_library():
    program = "import sys; from stack.cli import main; sys.argv = ['dear', 'up', '--help']\ntry: main()\nexcept SystemExit: pass\n"
    heavy = "print([name for name in ('kafka', 'faust', 'pymongo', 'fastapi', 'numpy') if name in sys.modules], file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", program + heavy], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert ran.stderr.strip() == "[]"


def test_a_command_that_needs_a_running_stack_says_so(tmp_path):
    ran = dear("status", "--data-dir", str(tmp_path))
    assert ran.returncode == 3
    assert ran.stderr.startswith("dear: nothing is up in")
    assert "Traceback" not in ran.stderr


def test_an_unknown_command_is_wrong_usage():
    assert dear("no-such-command").returncode == 2


def test_a_clock_that_does_not_exist_is_wrong_usage(tmp_path):
    assert dear("up", "--clock", "sundial", "--data-dir", str(tmp_path)).returncode == 2


def test_a_data_directory_keeps_its_clock(tmp_path):
    (tmp_path / "clock.json").write_text(json.dumps({"mode": "replay"}))
    ran = dear("up", "--clock", "live", "--data-dir", str(tmp_path))
    assert ran.returncode == 1
    assert "begun with the replay clock" in ran.stderr


def test_a_taken_port_is_named(tmp_path, taken_port):
    ran = dear("up", "--data-dir", str(tmp_path), "--port-base", str(taken_port - 2))
    assert ran.returncode == 1
    assert f"segmentation ({taken_port})" in ran.stderr
    assert "--port-base" in ran.stderr


@pytest.fixture
def taken_port():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.parametrize(("text", "seconds"), [("24h", 86400), ("30m", 1800), ("10s", 10), ("7d", 604800), ("90", 90)])
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "1.5h", "1 week"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


def test_a_port_base_counts_in_the_documented_order():
    assert ports_from(9000) == Ports(9000, 9001, 9002, 9003, 9004, 9005, 9006, 9007, 9008)
    assert PORT_COUNT == 9
    assert ports_from(None).url("identity") == "http://127.0.0.1:8081"


def test_a_service_that_could_check_no_key_does_not_listen_to_the_network():
    for name in ("identity", "segmentation", "campaigns", "notifications"):
        ran = dear(name, "api", DEAR_HOST="0.0.0.0", DEAR_KEY_PEPPER="", DEAR_INGEST_WRITE_KEYS="")
        assert ran.returncode == 1
        assert "DEAR_KEY_PEPPER" in ran.stderr
        assert "Traceback" not in ran.stderr


def test_keys_without_a_running_stack_or_scopes_are_said_to_be_so(tmp_path):
    ran = dear("keys", "create", "--scopes", "ingest", "--json", "--data-dir", str(tmp_path))
    assert ran.returncode == 3
    assert "nothing is up" in ran.stderr
    assert dear("keys", "create").returncode == 2
