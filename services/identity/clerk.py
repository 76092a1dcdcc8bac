"""Works on privacy requests, a step at a time. Every step may be done twice, so dying between two of them costs a repetition."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, get_args

from services.identity import archive, metrics
from services.identity.consents import consent_history
from services.identity.domain.events import SEPARATOR
from services.identity.domain.graves import Digest
from services.identity.domain.privacy import Kind, Request, Rules, State, event_id, proof, rounds_of, waiting_for
from services.identity.erasing import ReadLetters, erase_here
from services.identity.store import customers, privacy, timeline
from shared.clock import Clock
from shared.contracts.customers import Channel, ConsentChanged, ConsentStatement, CustomerIdentified
from shared.contracts.envelope import derived_id, envelope
from shared.contracts.privacy import PrivacyAnswered, PrivacyRequested
from shared.contracts.topics import CUSTOMER_UPDATES, PRIVACY
from shared.mongo import in_store
from shared.privacy import read_batch
from shared.streaming.errors import InvalidEvents, Unavailable
from shared.streaming.records import Batch, Message, Publish

log = logging.getLogger(__name__)

SOURCE = "dear/identity/privacy"
LEASE = timedelta(minutes=5)
ASK_AGAIN = timedelta(seconds=30)
"""The embedded broker may have lost the question; whoever has answered answers again."""
AT_ONCE = 20
CHANNELS: tuple[Channel, ...] = get_args(Channel)


class Clerk:
    """A timer that works beside the stream: an archive takes longer than a batch may wait."""

    def __init__(self, publish: Publish, wall: Clock, rules: Rules, digest: Digest | None, read_letters: ReadLetters) -> None:
        self._publish, self._wall, self._rules, self._digest, self._read_letters = publish, wall, rules, digest, read_letters
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Work on what waits, unless that is being done already. Raises what the last time raised."""
        if self._running is None or self._running.done():
            last, self._running = self._running, asyncio.create_task(self.work())
            if last is not None:
                last.result()

    async def stop(self) -> None:
        """Let the work at hand end."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def work(self) -> None:
        """Take a step with each request that waits, up to a few."""
        seen: set[str] = set()
        try:
            await self._delete_old_archives()
            while len(seen) < AT_ONCE:
                now = self._wall.now()
                document = await in_store(privacy.take, now, now + LEASE)
                if document is None:
                    return
                await self._step(document)
                await in_store(partial(privacy.change, document["_id"], leased_until=self._wall.now()))
                if document["_id"] in seen:
                    return
                seen.add(document["_id"])
        except Unavailable as away:
            log.warning("privacy requests wait: %s", away)

    async def _step(self, document: Mapping[str, Any]) -> None:
        request = privacy.request_of(document)
        match request.state:
            case State.RECEIVED:
                await self._begin(request, document)
            case State.WORKING:
                await self._go_on(request, document)
            case State.SETTLING:
                if request.settled_from is not None and self._wall.now() >= request.settled_from + self._rules.settle:
                    await self._begin(request, document)

    async def _begin(self, request: Request, document: Mapping[str, Any]) -> None:
        """Do our part, and ask the others for theirs."""
        number = request.round + 1
        if request.kind is Kind.ERASURE:
            assert self._digest is not None  # The API refuses an erasure where there is no key.
            await erase_here(request, self._digest, self._publish, self._read_letters)
        elif request.kind is Kind.OBJECTION:
            await self._append(request, await in_store(_refusals, request))
        elif request.kind is Kind.RECTIFICATION:
            await self._append(request, await in_store(_corrections, request, document["changes"]))
        await self._ask(request, number)
        asked_at = self._wall.now()
        await in_store(partial(privacy.change, request.request_id, state=State.WORKING, round=number, asked_at=asked_at))

    async def _append(self, request: Request, data: ConsentChanged | CustomerIdentified | None) -> None:
        """Say it as any source does; the event's id is the request's, so that it counts once."""
        if data is None:
            return
        reference = (
            data.reference if isinstance(data, ConsentChanged) else data.references[0] if isinstance(data, CustomerIdentified) else ""
        )
        event = envelope(data, id=event_id(request.request_id, request.kind), source=SOURCE, time=request.requested_at)
        await self._publish(CUSTOMER_UPDATES, [Message(reference.encode(), event.model_dump_json().encode())])

    async def _ask(self, request: Request, number: int) -> None:
        if request.kind is Kind.RECTIFICATION:
            return
        document = await in_store(privacy.find, request.request_id) or {}
        await self._publish(PRIVACY, [_question(request, number, profile, document.get("digests") or ()) for profile in request.members])

    async def _go_on(self, request: Request, document: Mapping[str, Any]) -> None:
        answers = await in_store(privacy.answers, request.request_id)
        waiting = [] if request.kind is Kind.RECTIFICATION else waiting_for(request.members, _answered(answers, request.round))
        if waiting:
            if self._wall.now() >= document["asked_at"] + ASK_AGAIN:
                await self._ask(request, request.round)
                await in_store(partial(privacy.change, request.request_id, asked_at=self._wall.now()))
            return
        for answer in answers:
            await in_store(privacy.raise_counts, request.request_id, answer["service"], _summed(answers, answer["service"]))
        if request.round < rounds_of(request.kind):
            await in_store(partial(privacy.change, request.request_id, state=State.SETTLING, settled_from=self._wall.now()))
            return
        await self._finish(request, answers)

    async def _finish(self, request: Request, answers: Sequence[Mapping[str, Any]]) -> None:
        now = self._wall.now()
        more: dict[str, Any] = {}
        if request.kind is Kind.ACCESS:
            consents = await in_store(consent_history, request.members)
            packed, found = await in_store(archive.build, request, consents, answers, now)
            await in_store(privacy.keep_archive, request.request_id, packed)
            await in_store(privacy.raise_counts, request.request_id, "identity", {name: found[name] for name in ("events", "consents")})
            more = {"archive": {"bytes": len(packed), "sha256": hashlib.sha256(packed).hexdigest()}}
        elif request.kind in (Kind.OBJECTION, Kind.RECTIFICATION):
            key = SOURCE + SEPARATOR + event_id(request.request_id, request.kind)
            if not await in_store(timeline.kept_under, (key,)):
                return  # It is on its way through our own topic.
            more = {"event": {"source": SOURCE, "id": event_id(request.request_id, request.kind)}}
        counts = (await in_store(privacy.find, request.request_id) or {}).get("counts") or {}
        proven = proof(request, counts, now, **more)
        await in_store(privacy.forget_answers, request.request_id)
        await in_store(partial(privacy.change, request.request_id, state=State.DONE, done_at=now, proof=proven, changes=None))
        metrics.PRIVACY_DONE.labels(request.kind.value).inc()

    async def _delete_old_archives(self) -> None:
        for request_id in await in_store(privacy.archives_before, self._wall.now() - self._rules.archives_kept, AT_ONCE):
            await in_store(privacy.forget_archive, request_id)
            await in_store(privacy.change, request_id, **{"proof.archive_deleted": True})


async def on_privacy(batch: Batch) -> None:
    """Keep what the other services answer."""
    answered, rejects = read_batch(batch, PrivacyAnswered.event_type)
    for event in answered:
        await in_store(privacy.add_answer, event.data)
    if rejects:
        raise InvalidEvents(tuple(rejects))


def _question(request: Request, number: int, profile: str, digests: Sequence[str]) -> Message:
    kind: Any = request.kind.value
    data = PrivacyRequested(
        request_id=request.request_id,
        kind=kind,
        round=number,
        customer_id=request.customer_id,
        profile_id=profile,
        references=tuple(digests),
    )
    name = derived_id("privacy", request.request_id, number, profile)
    event = envelope(data, id=name, source="dear/identity", time=request.requested_at)
    return Message(profile.encode(), event.model_dump_json().encode())


def _refusals(request: Request) -> ConsentChanged | None:
    reference = _a_reference(request)
    statements = tuple(ConsentStatement(purpose="marketing", channel=channel, granted=False, method="objection") for channel in CHANNELS)
    return ConsentChanged(reference=reference, consents=statements) if reference else None


def _corrections(request: Request, changes: str | None) -> CustomerIdentified | None:
    reference = _a_reference(request)
    if changes is None or reference is None:
        return None
    said = json.loads(changes)
    references = tuple(dict.fromkeys((reference, *said.pop("references", ()))))
    return CustomerIdentified(references=references, **said)


def _a_reference(request: Request) -> str | None:
    state = customers.load((request.customer_id,)).get(request.customer_id)
    return min(state.references, default=None) if state else None


def _answered(answers: Sequence[Mapping[str, Any]], number: int) -> dict[tuple[str, str], tuple[int, set[int]]]:
    """(profile, service) -> how many parts it answered in, and which of them are here."""
    came: dict[tuple[str, str], tuple[int, set[int]]] = {}
    for each in answers:
        if each["round"] == number:
            came.setdefault((each["profile"], each["service"]), (each["parts"], set()))[1].add(each["part"])
    return came


def _summed(answers: Sequence[Mapping[str, Any]], service: str) -> dict[str, int]:
    """What one service counted, over profiles and rounds: what the second round finds was not there in the first."""
    sums: dict[str, int] = {}
    kept: dict[str, int] = {}
    for each in answers:
        if each["service"] == service and each["part"] == 1:
            for name, count in each["counts"]:
                if name.startswith("kept_"):
                    kept[f"{each['profile']}/{name}"] = count
                else:
                    sums[name] = sums.get(name, 0) + count
    for name, count in kept.items():
        sums[name.partition("/")[2]] = sums.get(name.partition("/")[2], 0) + count
    return sums
