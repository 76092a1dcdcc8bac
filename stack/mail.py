"""A mail sink (`python -m stack.mail`): accepts every mail over SMTP, keeps the newest, counts all, shows them as JSON and as a page."""

from __future__ import annotations

import argparse
import email
import email.policy
import html
import json
import signal
import threading
from collections import deque
from datetime import UTC, datetime
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

KEPT_DEFAULT = 2000
MAIL_BYTES_MAX = 1_000_000


class Mailbox:
    """What was received: the newest mails whole, and the count of all. Numbers start at 1 and are never used again."""

    def __init__(self, kept: int = KEPT_DEFAULT) -> None:
        self._mails: deque[dict[str, Any]] = deque(maxlen=kept)
        self._lock = threading.Lock()
        self._received = 0

    def receive(self, sender: str, recipients: list[str], content: bytes) -> int:
        """Keep a mail and return its number."""
        mail = _read(content)
        with self._lock:
            self._received += 1
            number = self._received
            self._mails.append({"number": number, "from": sender, "to": recipients, "received_at": datetime.now(UTC).isoformat(), **mail})
        return number

    def count(self) -> dict[str, int]:
        """How many were received, and how many of them are kept."""
        with self._lock:
            return {"received": self._received, "kept": len(self._mails)}

    def list(self, to: str | None = None, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """The kept mails with a number above `after`, oldest first, without their bodies."""
        with self._lock:
            found = (mail for mail in self._mails if mail["number"] > after and (to is None or to.lower() in map(str.lower, mail["to"])))
            return [{key: value for key, value in mail.items() if key not in ("text", "html")} for mail in islice(found, limit)]

    def get(self, number: int) -> dict[str, Any] | None:
        """One mail, whole; None where it was never received or is no longer kept."""
        with self._lock:
            return next((mail for mail in self._mails if mail["number"] == number), None)

    def clear(self) -> None:
        """Let go of the kept mails; the count of all stays."""
        with self._lock:
            self._mails.clear()


def _read(content: bytes) -> dict[str, Any]:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return {
        "subject": _header(message, "subject"),
        "headers": {name.lower(): str(value) for name, value in message.items()},
        "text": _body(message, "plain"),
        "html": _body(message, "html"),
        "bytes": len(content),
    }


def _header(message: EmailMessage, name: str) -> str:
    return str(message.get(name, ""))


def _body(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    if part is None:
        return None
    try:
        return str(part.get_content())
    except (LookupError, UnicodeError):
        return None


class Receiver:
    """aiosmtpd's handler."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        content = envelope.content or b""
        number = self._mailbox.receive(
            envelope.mail_from or "", list(envelope.rcpt_tos), content if isinstance(content, bytes) else content.encode()
        )
        return f"250 OK kept as {number}"


class Page(BaseHTTPRequestHandler):
    """`GET /messages?to=&after=&limit=`, `GET /messages/{number}`, `GET /count`, `DELETE /messages`, and a page at `/`."""

    mailbox: Mailbox
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        path = [part for part in parts.path.split("/") if part]
        if not path:
            self._answer(200, page(self.mailbox).encode(), "text/html; charset=utf-8")
        elif path == ["count"]:
            self._answer_json(200, self.mailbox.count())
        elif path == ["messages"]:
            self._list(query)
        elif path[0] == "messages" and len(path) == 2:
            self._one(path[1])
        else:
            self._problem(404, "There is /messages, /messages/{number}, /count and the page at /.")

    def do_DELETE(self) -> None:
        if urlsplit(self.path).path.rstrip("/") != "/messages":
            return self._problem(404, "Only /messages can be deleted, as a whole.")
        self.mailbox.clear()
        return self._answer_json(200, self.mailbox.count())

    def _list(self, query: dict[str, str]) -> None:
        try:
            after, limit = int(query.get("after", 0)), int(query.get("limit", 100))
        except ValueError:
            return self._problem(422, "`after` and `limit` are whole numbers.")
        if not 1 <= limit <= 1000:
            return self._problem(422, "`limit` is between 1 and 1000.")
        return self._answer_json(200, {**self.mailbox.count(), "messages": self.mailbox.list(query.get("to"), after, limit)})

    def _one(self, number: str) -> None:
        mail = self.mailbox.get(int(number)) if number.isascii() and number.isdigit() else None
        if mail is None:
            return self._problem(404, f"No mail {number} is kept.")
        return self._answer_json(200, mail)

    def _problem(self, status: int, detail: str) -> None:
        body = {"type": "about:blank", "title": "Not answered", "status": status, "detail": detail}
        self._answer(status, json.dumps(body).encode(), "application/problem+json")

    def _answer_json(self, status: int, body: object) -> None:
        self._answer(status, json.dumps(body, ensure_ascii=False).encode(), "application/json")

    def _answer(self, status: int, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: they name people."""


def page(mailbox: Mailbox) -> str:
    """The newest mails for a person to look at."""
    count = mailbox.count()
    newest = mailbox.list(after=max(0, count["received"] - 100))[::-1]
    rows = "".join(
        f"<tr><td><a href='/messages/{mail['number']}'>{mail['number']}</a><td>{html.escape(', '.join(mail['to']))}"
        f"<td>{html.escape(mail['subject'])}<td>{mail['received_at'][:19]}"
        for mail in newest
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Mail sink</title>"
        "<style>body{font:16px/1.4 system-ui;margin:2rem}td,th{padding:.2rem 1rem .2rem 0;text-align:left}</style>"
        f"<h1>Mail sink</h1><p>{count['received']} received, the newest {count['kept']} kept, none sent on."
        f"<table><tr><th>No<th>To<th>Subject<th>Received (UTC){rows}</table></html>"
    )


def serve(smtp_port: int, http_port: int, kept: int = KEPT_DEFAULT, host: str = "127.0.0.1") -> None:
    """Receive and show until SIGTERM or Ctrl-C."""
    asked_to_leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_leave.set())
    mailbox = Mailbox(kept)
    web = ThreadingHTTPServer((host, http_port), type("BoundPage", (Page,), {"mailbox": mailbox}))
    smtp = Controller(Receiver(mailbox), hostname=host, port=smtp_port, data_size_limit=MAIL_BYTES_MAX)
    smtp.start()
    threading.Thread(target=web.serve_forever, daemon=True).start()
    # Nothing here outlives the process, and both threads end with it: no need to wait for clients that stay connected.
    asked_to_leave.wait()


def main() -> None:
    """Read the ports from the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m stack.mail", description=__doc__)
    parser.add_argument("--smtp-port", type=int, default=8025)
    parser.add_argument("--http-port", type=int, default=8026)
    parser.add_argument("--keep", type=int, default=KEPT_DEFAULT, help="how many mails are kept whole")
    arguments = parser.parse_args()
    serve(arguments.smtp_port, arguments.http_port, arguments.keep)


if __name__ == "__main__":
    main()
