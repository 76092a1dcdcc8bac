"""A mail server that refuses, is away, or breaks off: what certainly did not go out is tried again, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

from stack.process import free_port
from tests.notifications.world import Sink, World


def test_a_refused_recipient_is_a_failure_and_the_connection_lives_on(world: World, sink: Sink) -> None:
    sink.at_recipient = lambda address: "550 5.1.1 no such mailbox" if address.startswith("household-1@") else None

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, 2)
        await world.offer(1)
        await world.offer(2)

    asyncio.run(scenario())
    assert sink.recipients == ["household-2@example.com"]
    assert world.messages(state="failed")[0]["reason"] == "recipient_refused"
    assert "no such mailbox" in world.messages(state="failed")[0]["detail"]
    assert ("failed", "recipient_refused") in world.outcomes()


def test_refused_content_is_a_failure(world: World, sink: Sink) -> None:
    sink.at_content = lambda: "554 looks like spam"

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1)

    asyncio.run(scenario())
    assert world.outcomes() == [("failed", "content_refused")]


def test_try_again_later_is_tried_again_later(world: World, sink: Sink) -> None:
    sink.at_recipient = lambda _: "450 4.2.0 greylisted"

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1)
        assert world.states() == [("due", "try_later")]
        assert world.messages()[0]["retry_at"] > world.messages()[0]["recorded_at"]
        sink.at_recipient = lambda _: None
        await world.bus.tick()
        assert sink.mails == []
        world.database["messages"].update_many({}, {"$unset": {"retry_at": ""}})
        await world.bus.tick()

    asyncio.run(scenario())
    assert world.outcomes() == [("sent", None)]
    assert world.messages()[0]["attempts"] == 2


def test_while_the_server_is_away_messages_stay_due_and_caps_do_not_count_them(world: World, sink: Sink) -> None:
    sink.stop()

    async def scenario() -> None:
        await world.bus.start()
        await world.know(*range(30))
        await world.offer(*range(30))
        assert {state for state, _ in world.states()} == {"due"}
        assert world.deliveries() == []
        sink.start()
        # The outbox asks again after a while, and then sends some at a time.
        for _ in range(200):
            await world.bus.tick()
            if len(sink.recipients) == 30:
                break
            await asyncio.sleep(0.1)

    asyncio.run(scenario())
    assert sorted(sink.recipients) == sorted(f"household-{number}@example.com" for number in range(30))
    assert world.outcomes() == [("sent", None)] * 30


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, 2)
        await world.offer(1)
        sink.stop()
        sink.start()
        await world.offer(2)

    asyncio.run(scenario())
    assert len(sink.mails) == 2


def test_a_server_that_breaks_off_over_the_content_leaves_an_unknown(new_world: Callable[..., World]) -> None:
    server = HangsUpAfterContent()
    world = new_world(smtp_port=server.port)

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1)
        await world.bus.tick()
        await world.offer(1)

    asyncio.run(scenario())
    server.close()
    assert server.contents == 1
    assert world.states() == [("unknown", "connection_lost")]


def test_a_server_that_never_answers_the_content_leaves_an_unknown(new_world: Callable[..., World]) -> None:
    server = HangsUpAfterContent(silent=True)
    world = new_world(smtp_port=server.port, smtp_timeout_seconds=0.5)

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1)

    asyncio.run(scenario())
    server.close()
    assert world.outcomes() == [("unknown", "connection_lost")]


class HangsUpAfterContent:
    """A mail server that takes the content and then hangs up, or says nothing more."""

    def __init__(self, *, silent: bool = False) -> None:
        self.port, self.contents, self._silent = free_port(), 0, silent
        self._socket = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as lines:
            self._say(lines, "220 ready")
            for line in lines:
                command = line.split()[0].upper()
                if command == b"DATA":
                    self._say(lines, "354 go on")
                    while lines.readline() not in (b".\r\n", b""):
                        pass
                    self.contents += 1
                    if self._silent:
                        lines.readline()
                    return
                self._say(lines, "250 OK")

    def _say(self, lines: object, words: str) -> None:
        lines.write(words.encode() + b"\r\n")  # type: ignore[attr-defined]
        lines.flush()  # type: ignore[attr-defined]
