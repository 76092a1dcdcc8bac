"""The pepper of a data directory, and to whom the `dear` command names itself."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from shared.access.keys import service_key
from stack.data_directory import OPERATOR, DataDirectory
from stack.http import ask
from stack.keys import NoPepper, Wanted, create_key, list_keys, revoke_key


class Identity(BaseHTTPRequestHandler):
    """Answers anything, and remembers what it was asked."""

    heard: list[tuple[str, str, str | None]]

    def do_GET(self) -> None:
        self.heard.append((self.command, self.path, self.headers.get("Authorization")))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = {"id": "a", "name": "n", "key": "dear_a_b", "scopes": [], "rate": 1, "expires_at": None, "revoked_at": "now"}
        body = json.dumps({"keys": [], **key})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_DELETE = do_GET  # noqa: N815 - as the standard library calls them

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def identity() -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    heard: list[tuple[str, str, str | None]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Heard", (Identity,), {"heard": heard}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_pepper_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEAR_KEY_PEPPER", raising=False)


def test_the_pepper_is_made_once_and_for_our_eyes_only(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    assert directory.read_pepper() is None
    made = directory.make_pepper()
    assert len(made) == 64
    assert DataDirectory(tmp_path).make_pepper() == made
    assert (directory.read_pepper() or b"").decode() == made
    [file] = [path for path in tmp_path.iterdir() if made in path.read_text()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_master_key_is_another_secret_kept_the_same_way(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    made = directory.make_master_key()
    assert made != directory.make_pepper()
    assert DataDirectory(tmp_path).make_master_key() == made
    assert (tmp_path / "master-key").stat().st_mode & 0o777 == 0o600


def test_a_pepper_that_was_half_written_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "key-pepper.partial").write_text("0123")
    assert len(DataDirectory(tmp_path).make_pepper()) == 64


def test_the_command_names_itself_to_the_running_stack_and_to_nobody_else(tmp_path: Path, identity: Any, capsys: Any) -> None:
    url, heard = identity
    directory = DataDirectory(tmp_path)
    pepper = directory.make_pepper()
    directory.write_up({"services": {"identity": url}, "supervisor_pid": os.getpid()})
    mine = f"Bearer {service_key(pepper.encode(), OPERATOR)}"
    assert create_key(tmp_path, None, Wanted(("ingest",), None, None, None), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["key"] == "dear_a_b"
    list_keys(tmp_path, None, as_json=False)
    revoke_key(tmp_path, None, "dear_0123456789abcdef_secret", as_json=False)
    assert heard == [("POST", "/v1/keys", mine), ("GET", "/v1/keys", mine), ("DELETE", "/v1/keys/0123456789abcdef", mine)]
    assert "secret" not in str(heard)
    ask(url.replace("127.0.0.1", "localhost") + "/elsewhere")
    assert heard[-1] == ("GET", "/elsewhere", None)


def test_another_identity_is_asked_with_the_pepper_of_the_environment(
    tmp_path: Path, identity: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, heard = identity
    with pytest.raises(NoPepper, match="DEAR_KEY_PEPPER"):
        list_keys(tmp_path, url, as_json=True)
    monkeypatch.setenv("DEAR_KEY_PEPPER", "0123456789abcdef")
    list_keys(tmp_path, url, as_json=True)
    assert heard == [("GET", "/v1/keys", f"Bearer {service_key(b'0123456789abcdef', OPERATOR)}")]
