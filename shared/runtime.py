"""One process of one service: settings, clock, broker, database, HTTP and the stream loop on one event loop, and the way out."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import ModuleType
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import SettingsError

from shared.access.audit import AuditLog
from shared.access.gate import Gate
from shared.access.guarding import check_guarded, is_loopback
from shared.access.keyring import Keyring
from shared.access.learning import ask_identity
from shared.clock import Clock, ReplayClock, WallClock
from shared.contracts.topics import TOPICS
from shared.http import create_app
from shared.kafka_admin import KafkaAdminError, topic_ids
from shared.logs import set_up_logs
from shared.mongo import connect, disconnect, exchange_clock, in_store
from shared.service import Service
from shared.settings import Settings
from shared.streaming.errors import Unavailable
from shared.streaming.leaving import Lease
from shared.streaming.loop import StreamLoop
from shared.streaming.progress import TAKES_NOTHING_NEW, Progress
from shared.streaming.publisher import KafkaPublisher
from shared.streaming.watching import Watchdog

log = logging.getLogger(__name__)

Role = Literal["api", "worker", "all"]

EXIT_SETTINGS = 78
RETRY_SECONDS = 1.0
CLOCK_SECONDS = 1.0
PROBE_SECONDS = 2.0
HTTP_DRAIN_SECONDS = 5


def run(app_module: ModuleType | str, role: Role) -> None:
    """Run a service's `app` module until SIGTERM or SIGINT. Exits the process with one line when it cannot start."""
    module = importlib.import_module(app_module) if isinstance(app_module, str) else app_module
    name = module.__name__.split(".")[-2]
    settings = read_settings(module.SETTINGS, name)
    set_up_logs(name, settings.log_level)
    try:
        asyncio.run(Process(module, name, role, settings).run())
    except CannotStart as problem:
        sys.exit(f"dear {name}: {problem}")


class CannotStart(Exception):
    """Waiting will not help; the message says what to do."""


def read_settings(model: type[Settings], name: str) -> Settings:
    """The settings from the environment; ends the process with one line where they are invalid."""
    try:
        return model()
    except ValidationError as error:
        faults = "; ".join(_named(fault) for fault in error.errors())
    except SettingsError as error:
        # What is no JSON where JSON is expected; its text names the setting, the cause says where.
        faults = f"{error}: {error.__cause__}"
    print(f"dear {name}: invalid settings: {faults}", file=sys.stderr)  # noqa: T201 - there is no log yet
    sys.exit(EXIT_SETTINGS)


def _named(fault: Any) -> str:
    """The setting as it is set, where the fault is of one, and what is wrong with it."""
    setting, *inside = (str(each) for each in fault["loc"]) if fault["loc"] else ("",)
    variable = setting if setting.isupper() or not setting else f"DEAR_{setting.upper()}"
    return ": ".join(part for part in (".".join((variable, *inside)), fault["msg"]) if part)


class Process:
    """The parts of one process, started and stopped in order."""

    def __init__(self, module: ModuleType, name: str, role: Role, settings: Settings) -> None:
        check_guarded(settings)
        self._name = name
        self._role = role
        self._settings = settings
        self._progress = Progress()
        self._clock: Clock = WallClock() if settings.clock == "live" else ReplayClock()
        self._lease = Lease(settings.session_seconds)
        self._publisher = KafkaPublisher(settings.kafka_bootstrap_servers, self._lease if role != "api" else None)
        self._audit = AuditLog(name)
        self._stop = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._build = module.build

    async def run(self) -> None:
        """Start everything, wait for a signal, stop everything."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._close_to_requests)
        client = connect(self._name, self._settings.mongodb_uri)
        service: Service = self._build(self._publisher, self._settings, self._clock)
        gate = self._gate(service)
        app = create_app(service, self._clock, self._progress, with_api=self._role != "worker", gate=gate)
        server = HttpServer(app, self._settings.host, self._settings.port)
        server.start()
        beside = [asyncio.create_task(gate.keyring.follow(self._keys_known)), asyncio.create_task(self._audit.keep())]
        work = asyncio.create_task(self._work(service, client))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait({work, stopping, *beside}, return_when=asyncio.FIRST_COMPLETED)
            for task in done.intersection(beside):
                task.result()  # They never end by themselves: raises what ended them.
        finally:
            self._progress.wait_for("leaving", "the process is leaving")
            service.hang_up()
            await server.stop()
            for task in (stopping, *beside):
                task.cancel()
            await self._finish(work)
        log.info("left")

    def _gate(self, service: Service) -> Gate:
        """The keys are waited for before anybody is told to come: until they are known, nobody is let in."""
        settings = self._settings
        learn = service.learn_keys or partial(ask_identity, settings.identity_url, settings.credential(self._name))
        if self._role != "worker":
            self._progress.wait_for("keys", "identity has not said which keys there are")
        return Gate(Keyring(settings.pepper, learn), is_loopback(settings.host), settings.ingest_write_keys, self._audit)

    def _keys_known(self) -> None:
        self._progress.done("keys")

    def _close_to_requests(self) -> None:
        """SIGUSR1: go on working, but let no request bring anything new. A log that ends with its broker can be emptied only then."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        await self._publisher.close_to_requests()
        self._progress.wait_for("closed", TAKES_NOTHING_NEW)

    async def _finish(self, work: asyncio.Task[None]) -> None:
        work.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await work
        finally:
            await self._audit.finish()
            await self._publisher.stop()
            disconnect(self._name)

    async def _work(self, service: Service, client: Any) -> None:
        """Everything behind the HTTP side, until cancelled."""
        ids = await self._wait_for_topics()
        await self._until_available("the database", lambda: in_store(client.admin.command, "ping"))
        await self._until_available("the database", self._exchange_clock)
        await self._until_available("what the service needs", lambda: service.start(ids))
        background = [asyncio.create_task(self._keep_clock()), asyncio.create_task(self._probe(client))]
        try:
            await self._stream(service, ids) if self._role != "api" else await self._answer()
        finally:
            for task in background:
                task.cancel()
            with suppress(Unavailable):
                await self._exchange_clock()
            with suppress(Unavailable):
                await service.stop()

    async def _answer(self) -> None:
        self._started()
        await asyncio.Event().wait()

    async def _stream(self, service: Service, ids: Mapping[str, str]) -> None:
        loop = StreamLoop(
            service,
            publish=self._publisher.publish,
            topic_ids=self._topic_ids,
            known_ids=ids,
            bootstrap_servers=self._settings.kafka_bootstrap_servers,
            progress=self._progress,
            lease=self._lease,
            session_seconds=self._settings.session_seconds,
            park_limit=self._settings.park_limit,
        )
        watchdog = asyncio.create_task(Watchdog(loop, self._progress, self._settings.stall_seconds).watch())
        try:
            await loop.start()
            self._started()
            await watchdog
        finally:
            watchdog.cancel()
            await loop.drain()

    def _started(self) -> None:
        collect_rarely()
        self._progress.done("starting")
        log.info("%s %s started", self._name, self._role)

    async def _topic_ids(self) -> Mapping[str, str]:
        try:
            return await asyncio.to_thread(topic_ids, self._settings.kafka_bootstrap_servers)
        except KafkaAdminError as error:
            raise Unavailable(f"broker: {error}") from error

    async def _wait_for_topics(self) -> Mapping[str, str]:
        where = self._settings.kafka_bootstrap_servers
        await self._until_available(f"the broker at {where}", self._publisher.start)
        ids: Mapping[str, str] = {}

        async def read() -> None:
            nonlocal ids
            ids = await self._topic_ids()

        await self._until_available(f"the broker at {where}", read)
        missing = [topic.name for topic in TOPICS if topic.name not in ids]
        if missing:
            raise CannotStart(f"{len(missing)} topic(s) are missing at {where}, such as {missing[0]}; run: dear topics apply")
        return ids

    async def _until_available(self, what: str, attempt: Any) -> None:
        said = ""
        while True:
            try:
                await attempt()
            except Unavailable as away:
                if str(away) != said:
                    said = str(away)
                    log.warning("waiting for %s: %s", what, away)
                self._progress.wait_for("start", f"waiting for {what}")
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._progress.done("start")
                return

    async def _exchange_clock(self) -> None:
        if self._clock.mode == "replay":
            self._clock.observe(await in_store(exchange_clock, self._name, self._clock.now()))

    async def _keep_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_SECONDS)
            with suppress(Unavailable):
                await self._exchange_clock()

    async def _probe(self, client: Any) -> None:
        """Ready means that broker and database answer."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            self._note("broker", await self._publisher.is_reachable())
            try:
                await in_store(client.admin.command, "ping")
            except Unavailable:
                self._note("database", False)
            else:
                self._note("database", True)

    def _note(self, what: str, reachable: bool) -> None:
        if reachable and self._progress.done(what):
            log.info("the %s answers again", what)
        elif not reachable and self._progress.wait_for(what, f"the {what} does not answer"):
            log.warning("the %s does not answer", what)


class HttpServer:
    """Uvicorn on our event loop; signals are ours."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        try:
            self._socket = socket.create_server((host, port), backlog=1024)
            # asyncio turns Nagle's algorithm off only on sockets that name their protocol: without this, every answer waits 40 ms.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise CannotStart(f"cannot listen on {host}:{port}: {error.strerror}") from error
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=HTTP_DRAIN_SECONDS,
        )
        self._server = _Server(config)

    def start(self) -> None:
        """Answer from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """Answer what was asked, then no more."""
        self._server.should_exit = True
        await self._task


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def collect_rarely() -> None:
    """What is there by now stays: to search it all takes a tenth of a second, in which no request is answered.

    A batch makes tens of thousands of tuples and no cycles: by default they are searched twenty times.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
