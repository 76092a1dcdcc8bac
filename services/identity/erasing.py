"""What identity itself does to erase somebody: find everything, dig the graves, delete, and leave the customer for last.

Dying in between loses nothing: the profiles' own documents, which say whose the references are, go when all the rest is gone, and
what was counted before it was deleted is counted once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from services.identity.domain.customers import CustomerState, microseconds
from services.identity.domain.graves import Digest, Grave
from services.identity.domain.mentions import key_named, key_of, mentions, needles_of
from services.identity.domain.privacy import APPENDING, Request
from services.identity.merging import to_publish
from services.identity.people import announce
from services.identity.store import customers, graves, merges, names, outcomes, positions, privacy, references, timeline
from shared.contracts.topics import CUSTOMER_UPDATES, CUSTOMERS
from shared.letters import Letters
from shared.mongo import in_store
from shared.streaming.records import Message, Publish
from shared.vault import vault_of


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


async def erase_here(request: Request, digest: Digest, publish: Publish, letters: Letters) -> Findings:
    """Erase a customer, all of its profiles, from identity's database and from the topics that keep the last word. Raises Unavailable."""
    # In the second round, and after a crash: what was parked since then under the references' keys is made unreadable, and so is found.
    buried = frozenset((await in_store(privacy.find, request.request_id) or {}).get("digests") or ())
    await in_store(vault_of("identity").destroy, map(key_named, buried))
    found = await in_store(_find, request)
    needles = (*needles_of(found.references), *(each.encode() for each in request.members))
    texts = await in_store(_texts_that_mention, needles)
    parked = await letters.about(partial(mentions, needles=needles))
    counts = {**found.counts, "outcomes": len(texts), "dead_letters": len(parked)}
    await in_store(_note, request.request_id, counts)
    await in_store(_bury, request, found.references, digest)
    await letters.erase(parked, [key_of(each, digest) for each in found.references], publish)
    named = await in_store(customers.mentioned, lambda reference: digest(reference) in buried)
    await in_store(_delete, request, found.references | named, texts)
    await announce(await in_store(_left_behind, request.members), publish)
    await publish(CUSTOMERS, [Message(each.encode(), None) for each in request.members])
    return Findings(found.references, counts)


def _left_behind(members: Collection[str]) -> list[CustomerState]:
    """Those who were one customer with them once, to be published again.

    Who split them may have died before saying so, and is set aside when it comes again, as it names the erased.
    """
    left = [state for state in to_publish((), merges.concerning(members)) if state.customer_id not in members]
    names.note(left)
    return left


def _find(request: Request) -> Findings:
    states = customers.load(request.members).values()
    told = {reference for state in states for reference in state.references}
    retired = {reference for state in states for reference in state.called.retired}
    named: set[str] = set()
    event_count = 0
    for page in timeline.of_profiles(request.members):
        event_count += len(page)
        for each in page:
            named |= _references_in(bytes(each["event"]))
    # An event may name somebody else, too, whose reference stayed with them.
    owners = references.profiles_of(named | retired)
    owned = {reference for reference, profile in owners.items() if profile in request.members}
    # What they said to be theirs no more may come late, and nobody has it yet.
    owned |= retired - owners.keys()
    statements = len(customers.statements_of(request.members))
    worded = sum(bool(each["evidence"]) for each in merges.about(request.members))
    counts = {
        "events": event_count,
        "references": len(told | owned),
        "profiles": len(request.members),
        "consents": statements,
        "merge_evidence": worded,
    }
    return Findings(frozenset(told | owned), counts)


def _references_in(event: bytes) -> set[str]:
    data = _named.decode(event).data
    return {*data.references, *([data.reference] if data.reference else [])}


def _note(request_id: str, counts: Mapping[str, int]) -> None:
    privacy.raise_counts(request_id, "identity", counts)


def _bury(request: Request, own: Collection[str], digest: Digest) -> None:
    """Some events have graves of their own.

    Of those are what happened later by its own time, as a till's clock may say that is ahead, and what names somebody else, too, whose
    it would become if it came again; also forms that were emptied, as nobody knows any more whom they name.
    """
    # What was asked to be corrected for them may still be on its way, and is dated after all that was said of them.
    appending = [each["requested_at"] for each in privacy.of_profiles(request.members) if each["kind"] in APPENDING]
    until = microseconds(max((request.requested_at, *appending)))
    events = (each for page in timeline.of_profiles(request.members) for each in page)
    buried = [each["_id"] for each in events if each["at"] > until or not _references_in(bytes(each["event"])) <= set(own)]
    forms = positions.logs_of(CUSTOMER_UPDATES.name)
    buried += [each["_id"] for each in timeline.emptied(request.members) if each["origin"].rsplit("/", 2)[0] in forms]
    digests = [digest(reference) for reference in own]
    privacy.note_digests(request.request_id, digests)
    graves.bury(digests, map(digest, buried), Grave(until, request.request_id))


def _texts_that_mention(needles: Sequence[bytes]) -> list[str]:
    return [found for found, text in outcomes.sent_texts() if text is None or mentions(text, needles)]


def _delete(request: Request, own: Collection[str], texts: Iterable[str]) -> None:
    references.erase(own, request.members)
    customers.forget_elsewhere(own)
    # What people wrote when they merged or split them, whoever's event it is.
    timeline.erase(timeline.named(each["event"] for each in merges.about(request.members) if not each["kinds"]))
    merges.forget_words(request.members)
    outcomes.erase_texts(texts)
    # The keys first: from here on no copy of the timeline, wherever it lies, has their words.
    vault_of("identity").destroy(request.members)
    for events in timeline.sealed_or_not(request.members):
        timeline.erase(events)
    customers.erase_statements(request.members)
    for each in privacy.of_profiles(request.members):
        privacy.forget_archive(each["_id"])
        if each["_id"] != request.request_id:
            privacy.forget_answers(each["_id"])
            privacy.change(each["_id"], changes=None, events=None)
    names.forget(request.members)
    references.erase_profiles(request.members)
    customers.erase(request.members)
