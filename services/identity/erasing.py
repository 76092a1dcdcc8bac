"""What identity itself does to erase somebody: find everything, dig the graves, delete, and leave the customer for last.

Dying in between loses nothing: the customer's own document, which says whose the references are, goes when all the rest is gone, and
what was counted before it was deleted is counted once.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from services.identity.domain.customers import microseconds
from services.identity.domain.graves import Digest, Grave
from services.identity.domain.mentions import mentions, needles_of
from services.identity.domain.privacy import Request
from services.identity.store import customers, graves, names, outcomes, privacy, references, timeline, vault
from shared.contracts.dead_letters import EventParked
from shared.contracts.envelope import Event
from shared.contracts.topics import CUSTOMERS, DEAD_LETTERS
from shared.mongo import in_store
from shared.streaming.records import Message, Publish, Record

ReadLetters = Callable[[], AsyncIterator[Sequence[Record]]]
"""Everything that is in dead-letters-v1 now. Raises Unavailable."""


class _References(msgspec.Struct):
    reference: str | None = None
    references: list[str] = []


class _Named(msgspec.Struct):
    data: _References


_named = msgspec.json.Decoder(_Named)


@dataclass(frozen=True, slots=True)
class Findings:
    """What identity has of somebody."""

    references: frozenset[str]
    counts: Mapping[str, int]


async def erase_here(request: Request, digest: Digest, publish: Publish, read_letters: ReadLetters) -> Findings:
    """Erase a customer from identity's database and from the topics that keep the last word. Raises Unavailable."""
    found = await in_store(_find, request)
    needles = needles_of(found.references)
    texts = await in_store(_texts_that_mention, needles)
    letters = await _letters_that_mention(needles, read_letters)
    counts = {**found.counts, "outcomes": len(texts), "dead_letters": len(letters)}
    await in_store(_note, request.request_id, counts)
    await in_store(_bury, request, found.references, digest)
    await publish(DEAD_LETTERS, [Message(key, None) for key in letters])
    await in_store(_delete, request, found.references, texts)
    await publish(CUSTOMERS, [Message(request.customer_id.encode(), None)])
    return Findings(found.references, counts)


def _find(request: Request) -> Findings:
    state = customers.load((request.customer_id,)).get(request.customer_id)
    told: set[str] = set(state.references) if state else set()
    named: set[str] = set()
    event_count = 0
    for page in timeline.of_profiles(request.members):
        event_count += len(page)
        for each in page:
            named |= _references_in(bytes(each["event"]))
    # An event may name somebody else, too, whose reference stayed with them.
    owned = {reference for reference, profile in references.profiles_of(named).items() if profile in request.members}
    statements = len(customers.statements_of(request.members))
    counts = {"events": event_count, "references": len(told | owned), "profiles": len(request.members), "consents": statements}
    return Findings(frozenset(told | owned), counts)


def _references_in(event: bytes) -> set[str]:
    data = _named.decode(event).data
    return {*data.references, *([data.reference] if data.reference else [])}


def _note(request_id: str, counts: Mapping[str, int]) -> None:
    privacy.raise_counts(request_id, "identity", counts)


def _bury(request: Request, own: Iterable[str], digest: Digest) -> None:
    """What happened later by its own time, as a till's clock may say that is ahead, has a grave of its own."""
    until = microseconds(request.requested_at)
    later = [each["_id"] for page in timeline.of_profiles(request.members) for each in page if each["at"] > until]
    digests = [digest(reference) for reference in own]
    privacy.note_digests(request.request_id, digests)
    graves.bury(digests, map(digest, later), Grave(until, request.request_id))


def _texts_that_mention(needles: Sequence[bytes]) -> list[str]:
    return [found for found, text in outcomes.sent_texts() if mentions(text, needles)]


async def _letters_that_mention(needles: Sequence[bytes], read_letters: ReadLetters) -> list[bytes]:
    found: dict[bytes, bool] = {}
    async for records in read_letters():
        for record in records:
            if record.key is not None:
                found[record.key] = record.value is not None and _letter_mentions(record.value, needles)
    return [key for key, is_about in found.items() if is_about]


def _letter_mentions(value: bytes, needles: Sequence[bytes]) -> bool:
    parked = Event[EventParked].model_validate_json(value).data
    encoded = (parked.key_base64, parked.value_base64, *(each for _, each in parked.headers))
    texts = [b64decode(each) for each in encoded if each]
    return any(mentions(text, needles) for text in (*texts, parked.detail.encode()))


def _delete(request: Request, own: Iterable[str], texts: Iterable[str]) -> None:
    references.erase(own, request.members)
    outcomes.erase_texts(texts)
    # The keys first: from here on no copy of the timeline, wherever it lies, has their words.
    vault.destroy(request.members)
    vault.in_use().forget()
    for events in timeline.sealed_or_not(request.members):
        timeline.erase(events)
    customers.erase_statements(request.members)
    for each in privacy.of_customer(request.customer_id):
        privacy.forget_archive(each["_id"])
        if each["_id"] != request.request_id:
            privacy.forget_answers(each["_id"])
            privacy.change(each["_id"], changes=None)
    names.forget({request.customer_id, *request.members})
    references.erase_profiles(request.members)
    customers.erase(request.customer_id)
