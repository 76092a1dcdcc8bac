"""Works on privacy requests, a step at a time. Every step may be done twice, so dying between two of them costs a repetition."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from services.identity import archive, inactive, metrics, petition
from services.identity.consents import consent_history
from services.identity.domain.events import SEPARATOR
from services.identity.domain.graves import Digest
from services.identity.domain.privacy import APPENDING, Kind, Request, Rules, State, proof, rounds_of, waiting_for
from services.identity.erasing import erase_here
from services.identity.store import privacy, timeline
from shared.clock import Clock
from shared.contracts.envelope import derived_id, envelope
from shared.contracts.privacy import PrivacyAnswered, PrivacyRequested
from shared.contracts.topics import CUSTOMER_UPDATES, PRIVACY
from shared.letters import Letters
from shared.mongo import in_store
from shared.privacy import read_batch
from shared.streaming.errors import InvalidEvents, Unavailable
from shared.streaming.records import Batch, Message, Publish

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=5)
ASK_AGAIN = timedelta(seconds=30)
"""The embedded broker may have lost the question; whoever has answered answers again."""
AT_ONCE = 20
_ERASED = {"erased_meanwhile": True}
"""How a request ends whose customer is erased before it is met."""
_HEARD_OF = {"heard_of_meanwhile": True}
"""How the request of a retention rule ends whose customer is heard of before work on it begins."""


class Clerk:
    """Works beside the stream: an archive takes longer than a batch may wait."""

    def __init__(self, publish: Publish, wall: Clock, rules: Rules, digest: Digest | None, letters: Letters) -> None:
        self._publish, self._wall, self._rules, self._digest, self._letters = publish, wall, rules, digest, letters

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
        """Settle whom this round is about, in one write, and go to work. What is done in the round then follows from what is written."""
        if await in_store(inactive.is_heard_of_again, request):
            await self._close(request, **_HEARD_OF)
            return
        begun = await in_store(petition.begun, request, document.get("changes"))
        if begun is None:
            await self._close(request, **_ERASED)
            return
        await in_store(privacy.begin, *begun)
        written = await in_store(privacy.find, request.request_id)
        # Where another process was faster, it may be done.
        if written is not None and written["state"] == State.WORKING:
            await self._go_on(privacy.request_of(written), written)

    async def _go_on(self, request: Request, document: Mapping[str, Any]) -> None:
        if request.kind is not Kind.ERASURE and await in_store(petition.customer_of, request) is None:
            await self._close(request, **_ERASED)
            return
        if document.get("asked_at") is None:
            await self._do_our_part(request, document)
            await self._ask(request)
            return
        if await self._is_answered(request, document["asked_at"]):
            await self._conclude(request, document)

    async def _do_our_part(self, request: Request, document: Mapping[str, Any]) -> None:
        if request.kind is Kind.ERASURE:
            assert self._digest is not None  # The API refuses an erasure where there is no key.
            await erase_here(request, self._digest, self._publish, self._letters)
        # Said as any source says it; the ids are the request's, so that each counts once.
        said = [Message(reference.encode(), event.encode()) for _, reference, event in document.get("events") or ()]
        if said:
            await self._publish(CUSTOMER_UPDATES, said)

    async def _ask(self, request: Request) -> None:
        """Ask the others for their part, and note when."""
        if request.kind is not Kind.RECTIFICATION:
            document = await in_store(privacy.find, request.request_id) or {}
            await self._publish(PRIVACY, [_question(request, profile, document.get("digests") or ()) for profile in request.members])
        await in_store(partial(privacy.change, request.request_id, asked_at=self._wall.now()))

    async def _is_answered(self, request: Request, asked_at: datetime) -> bool:
        """Have all services answered for all members? Otherwise they are asked again from time to time."""
        answers = await in_store(privacy.answers, request.request_id)
        waiting = [] if request.kind is Kind.RECTIFICATION else waiting_for(request.members, _answered(answers, request.round))
        if waiting and self._wall.now() >= asked_at + ASK_AGAIN:
            await self._ask(request)
        return not waiting

    async def _conclude(self, request: Request, document: Mapping[str, Any]) -> None:
        """All have answered: pack, wait for what was said, or let what is erased settle, and close."""
        answers = _that_count(request, await in_store(privacy.answers, request.request_id))
        for service in {answer["service"] for answer in answers}:
            await in_store(privacy.raise_counts, request.request_id, service, _summed(answers, service))
        if request.round < rounds_of(request.kind):
            await in_store(partial(privacy.change, request.request_id, state=State.SETTLING, settled_from=self._wall.now()))
        elif request.kind is Kind.ACCESS:
            await self._pack(request, document, answers)
        elif await in_store(_is_in_force, document):
            said = {"events": [{"source": petition.SOURCE, "id": name} for name, _, _ in document.get("events") or ()]}
            await self._close(request, **(said if request.kind in APPENDING else {}))

    async def _pack(self, request: Request, document: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> None:
        customer = await in_store(petition.customer_of, request)
        if customer is None or customer.members != frozenset(request.members):
            # Merged or split since it began: somebody else's data may be among the answers, or some of their own may not.
            await self._begin(request, document)
            return
        consents = await in_store(consent_history, request.members)
        packed, found = await in_store(archive.build, request, consents, answers, self._wall.now())
        await in_store(privacy.keep_archive, request.request_id, packed)
        own = {name: found[name] for name in archive.OWN if name in found}
        await in_store(privacy.raise_counts, request.request_id, "identity", own)
        await self._close(request, archive={"bytes": len(packed), "sha256": hashlib.sha256(packed).hexdigest()})

    async def _close(self, request: Request, **more: Any) -> None:
        now = self._wall.now()
        counts = (await in_store(privacy.find, request.request_id) or {}).get("counts") or {}
        proven = proof(request, counts, now, **more)
        await in_store(privacy.forget_answers, request.request_id)
        done = {"state": State.DONE, "done_at": now, "proof": proven, "changes": None, "events": None}
        await in_store(partial(privacy.change, request.request_id, **done))
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


def _question(request: Request, profile: str, digests: Sequence[str]) -> Message:
    kind: Any = request.kind.value
    data = PrivacyRequested(
        request_id=request.request_id,
        kind=kind,
        round=request.round,
        customer_id=request.customer_id,
        profile_id=profile,
        references=tuple(digests),
    )
    name = derived_id("privacy", request.request_id, request.round, profile)
    event = envelope(data, id=name, source="dear/identity", time=request.requested_at)
    return Message(profile.encode(), event.model_dump_json().encode())


def _is_in_force(document: Mapping[str, Any]) -> bool:
    """Is what was appended in the timeline? It comes through our own topic."""
    names = {petition.SOURCE + SEPARATOR + name for name, _, _ in document.get("events") or ()}
    return timeline.kept_under(names).keys() == names


def _that_count(request: Request, answers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of an erasure all, for they tell what each round found; else those of this round about whom it is about."""
    if request.kind is Kind.ERASURE:
        return [*answers]
    return [each for each in answers if each["round"] == request.round and each["profile"] in request.members]


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
