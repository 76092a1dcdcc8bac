"""What notifications does with what it hears: customers become contacts, offers become messages on their way out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from services.notifications.domain.channels import choose_channel
from services.notifications.domain.contacts import Contact, contact_of
from services.notifications.domain.messages import Message, Outcome, message_for
from services.notifications.outbox import Outbox
from services.notifications.store import contacts as contact_store
from services.notifications.store import messages as message_store
from shared.clock import Clock
from shared.contracts.customers import CustomerPublished
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.offers import OfferDecided
from shared.mongo import in_store
from shared.streaming.errors import InvalidEvents, Reject
from shared.streaming.records import Batch, Record

_CUSTOMERS = fast_decoder(Event[CustomerPublished])
_OFFERS = fast_decoder(Event[OfferDecided])


async def on_customers(batch: Batch) -> None:
    """Keep the newest version of each customer; a tombstone forgets them."""
    rejects: list[Reject] = []
    contacts: dict[str, Contact | None] = {}
    for record, event in _decoded(batch, _CUSTOMERS, CustomerPublished.event_type, rejects):
        if event is None:
            contacts[(record.key or b"").decode(errors="replace")] = None
            continue
        contact = contact_of(event.data)
        held = contacts.get(contact.customer_id)
        if held is None or contact.version > held.version:
            contacts[contact.customer_id] = contact
    await in_store(contact_store.save, contacts)
    _refuse(rejects)


async def on_offers(batch: Batch, outbox: Outbox, clock: Clock) -> None:
    """Record each offer's message once and send what is due; an offer that has its outcome already gets the same answer again."""
    rejects: list[Reject] = []
    offers: dict[str, tuple[Record, Any]] = {}
    for record, event in _decoded(batch, _OFFERS, OfferDecided.event_type, rejects):
        if event is not None:
            clock.observe(event.time)
            offers.setdefault(event.data.offer_id, (record, event.data))
    if offers:
        await _take_in(batch.partition, list(offers.values()), outbox, clock)
    _refuse(rejects)


async def _take_in(partition: int, offers: list[tuple[Record, Any]], outbox: Outbox, clock: Clock) -> None:
    contacts = await in_store(contact_store.read, {offer.customer_id for _, offer in offers})
    messages = _messages(partition, offers, contacts)
    held_back = await outbox.first_look(messages, contacts)
    there_already = await in_store(message_store.record, messages, held_back)
    new = [message for message in messages if message.message_id not in there_already]
    verdicts = [held_back.get(message.message_id) for message in new]
    await outbox.tell_refused([verdict for verdict in verdicts if isinstance(verdict, Outcome)])
    due = [message for message, verdict in zip(new, verdicts, strict=True) if verdict is None]
    if there_already:
        await outbox.report(await in_store(message_store.final, there_already))
        due += await in_store(message_store.read_due, there_already, clock.now(), datetime.now(UTC))
    await outbox.send(due)


def _messages(partition: int, offers: list[tuple[Record, Any]], contacts: Mapping[str, Contact]) -> list[Message]:
    """A message for each offer, on the channel that suits the customer today."""
    recorded_at = datetime.now(UTC)
    messages = []
    for record, offer in offers:
        contact = contacts.get(offer.customer_id)
        channel = choose_channel(contact, offer.purpose).channel
        reference = contact.reference_on(channel) if contact else None
        messages.append(message_for(offer, channel, partition, recorded_at, record.timestamp, reference=reference))
    return messages


def _decoded(batch: Batch, decoder: Any, event_type: str, rejects: list[Reject]) -> Iterator[tuple[Record, Any]]:
    """The records that can be read, each with its event (None for a tombstone); the others are added to `rejects`."""
    for record in batch.records:
        if record.value is None:
            yield record, None
            continue
        try:
            event = decoder.decode(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            rejects.append(Reject(record.offset, "invalid_event", str(error)))
            continue
        if event.type != event_type:
            rejects.append(Reject(record.offset, "unknown_type", f"{event.type} on {batch.topic}"))
            continue
        yield record, event


def _refuse(rejects: list[Reject]) -> None:
    if rejects:
        raise InvalidEvents(tuple(rejects))
