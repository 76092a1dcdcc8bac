"""How a service answers what somebody asked about the data on them: it shows, stops writing, or erases, and says what it did."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any, Protocol

import msgspec

from shared.contracts.envelope import Event, derived_id, envelope
from shared.contracts.fast import fast_decoder
from shared.contracts.privacy import PrivacyAnswered, PrivacyRequested
from shared.contracts.topics import PRIVACY
from shared.letters import Letters
from shared.streaming.errors import InvalidEvents, Reject
from shared.streaming.records import Batch, Handler, Message, Publish

PART_BYTES = 400_000
"""Of records in one answer: escaped inside JSON they may double, and a message has a megabyte."""

Counts = dict[str, int]
_REQUESTED = fast_decoder(Event[PrivacyRequested])
_ANSWERED = fast_decoder(Event[PrivacyAnswered])


class _Typed(msgspec.Struct):
    type: str


_TYPE = msgspec.json.Decoder(_Typed)


class Holder(Protocol):
    """What a service has of profiles. Everything may be asked for twice."""

    async def show(self, profile: str) -> list[dict[str, Any]]:
        """What is known of a profile: plain records, each with its `kind`."""

    async def object(self, profile: str, at: datetime) -> Counts:
        """From now on nothing is sold to it."""

    async def erase(self, profile: str, references: Sequence[str]) -> Counts:
        """Erase a profile and what is known of these references, which are keyed hashes."""


def answer_privacy(service: str, holder: Holder, publish: Publish, letters: Letters) -> Handler:
    """The handler of privacy-v1 for a service that has something of customers, and the letters that it parks."""
    return partial(_on_requests, service=service, holder=holder, publish=publish, letters=letters)


async def _on_requests(batch: Batch, *, service: str, holder: Holder, publish: Publish, letters: Letters) -> None:
    asked, rejects = read_batch(batch, PrivacyRequested.event_type)
    for event in asked:
        counts, records = await _do(event.data, event.time, holder, publish, letters)
        await publish(PRIVACY, answers(event, service, counts, records))
    if rejects:
        raise InvalidEvents(tuple(rejects))


async def _do(asked: Any, at: datetime, holder: Holder, publish: Publish, letters: Letters) -> tuple[Counts, list[dict[str, Any]]]:
    if asked.kind == "erasure":
        found = await holder.erase(asked.profile_id, asked.references)
        # The key goes last: whoever dies before it erases again.
        parked = await letters.about(partial(_mentions, asked.profile_id.encode()))
        await letters.erase(parked, [asked.profile_id], publish)
        return {**found, "dead_letters": len(parked)}, []
    if asked.kind == "objection":
        return await holder.object(asked.profile_id, at), []
    records = await holder.show(asked.profile_id)
    counts: Counts = {}
    for each in records:
        counts[each["kind"]] = counts.get(each["kind"], 0) + 1
    return counts, records


def _mentions(profile: bytes, text: bytes) -> bool:
    """What services tell each other names profiles, and nobody otherwise."""
    return profile in text


def read_batch(batch: Batch, event_type: str) -> tuple[list[Any], list[Reject]]:
    """The events of one type among those of privacy-v1."""
    decoder = _REQUESTED if event_type == PrivacyRequested.event_type else _ANSWERED
    events: list[Any] = []
    rejects: list[Reject] = []
    for record in batch.records:
        try:
            if _TYPE.decode(record.value or b"").type == event_type:
                events.append(decoder.decode(record.value or b""))
        except ValueError as error:
            rejects.append(Reject(record.offset, "invalid_event", str(error)))
    return events, rejects


def answers(event: Any, service: str, counts: Mapping[str, int], records: Iterable[Mapping[str, Any]]) -> list[Message]:
    """The answer in as many messages as it needs; the same ones for the same request."""
    asked = event.data
    parts = list(_parts(json.dumps(each, default=_plain) for each in records))
    messages = []
    for number, part in enumerate(parts, 1):
        data = PrivacyAnswered(
            request_id=asked.request_id,
            kind=asked.kind,
            round=asked.round,
            profile_id=asked.profile_id,
            service=service,
            counts=dict(counts),
            records=tuple(part),
            part=number,
            parts=len(parts),
        )
        name = derived_id("privacy", asked.request_id, asked.round, asked.profile_id, service, number)
        answer = envelope(data, id=name, source=f"dear/{service}", time=event.time)
        messages.append(Message(asked.profile_id.encode(), answer.model_dump_json().encode()))
    return messages


def _parts(records: Iterable[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for record in records:
        if part and size + len(record) > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record)
    yield part


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else str(value)


def reference_digest(master_key: bytes, reference: str) -> str:
    """What stands for a reference that may not be kept any more: it can be recognised, and by nobody without the key."""
    return hmac.digest(master_key, b"reference\x1f" + reference.encode(), "sha256").hex()[:32]
