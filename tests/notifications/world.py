"""Notifications on the memory bus, the embedded database and a real mail server; the tests play identity and campaigns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from services.notifications.app import build
from services.notifications.settings import NotificationsSettings
from services.notifications.store.words import opened
from shared.clock import ReplayClock
from shared.contracts.customers import Consent, CustomerPublished
from shared.contracts.envelope import derived_id, envelope
from shared.contracts.offers import OfferDecided
from shared.contracts.topics import CUSTOMERS, DELIVERIES, OFFERS
from shared.streaming.memory import MemoryBus
from shared.streaming.records import Message
from stack.process import free_port

NOON = datetime(2017, 6, 1, 12, tzinfo=UTC)


def customer_id(number: int) -> str:
    return derived_id("profile", f"loyalty_card:{number}")


def customer_message(number: int, version: int = 1, *, consent: bool | None = True, at: datetime = NOON, **changes: Any) -> Message:
    """What identity publishes; `consent=None` says nothing about marketing by e-mail."""
    consents = () if consent is None else (Consent(purpose="marketing", channel="email", granted=consent, at=at),)
    fields: dict[str, Any] = {
        "references": (f"loyalty_card:{number}", f"email:household-{number}@example.com"),
        "traits": {"name": "Ada Adams"},
        "consents": consents,
        "preferred_channel": "email",
        "language": "en",
        "time_zone": "UTC",
        **changes,
    }
    id = customer_id(number)
    members = (id, *map(customer_id, fields.pop("members", ())))
    into = fields.pop("into", None)
    merged_into = None if into is None else customer_id(into)
    if merged_into is not None:
        fields = {"references": ()}
    data = CustomerPublished(customer_id=id, version=version, members=members, first_seen_at=NOON, merged_into=merged_into, **fields)
    value = envelope(data, id=f"customer-{number}-{version}", source="dear/identity", time=at).model_dump_json().encode()
    return Message(id.encode(), value)


def offer_message(number: int, offer_id: str = "offer", *, at: datetime = NOON, days: float = 14, **changes: Any) -> Message:
    """What campaigns publishes."""
    fields: dict[str, Any] = {
        "program": "win_back",
        "template": "win_back",
        "purpose": "marketing",
        "content": {"discount_percent": 15},
        **changes,
    }
    id = customer_id(number)
    data = OfferDecided(
        offer_id=f"{offer_id}-{number}", program_version=1, customer_id=id, decided_at=at, expires_at=at + timedelta(days=days), **fields
    )
    value = envelope(data, id=f"{offer_id}-{number}", source="dear/campaigns", time=at).model_dump_json().encode()
    return Message(id.encode(), value)


class Sink:
    """A mail server on loopback. `at_recipient`, `at_content` and `after_content` may answer for it, or do worse."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, EmailMessage]] = []
        self.at_recipient: Callable[[str], str | None] = lambda _: None
        self.at_content: Callable[[], str | None] = lambda: None
        self.after_content: Callable[[], str | None] = lambda: None
        self._lock = threading.Lock()
        self.port = free_port()
        self._controller: Controller | None = None

    def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        answer = self.at_recipient(address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        answer = self.at_content()
        if answer is not None:
            return answer
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        with self._lock:
            self.mails.append((envelope.rcpt_tos[0], mail))
        return self.after_content() or "250 OK"

    @property
    def recipients(self) -> list[str]:
        return [to for to, _ in self.mails]


class World:
    """One process of notifications, and what the tests tell it and ask of it."""

    def __init__(self, settings: NotificationsSettings, database: Any, clock: ReplayClock | None = None) -> None:
        self.settings, self.database = settings, database
        self.clock = clock or ReplayClock(NOON)
        self.bus = MemoryBus()
        self.service = build(self.bus, settings, self.clock)
        self.bus.add(self.service)

    async def know(self, *numbers: int, **said: Any) -> None:
        await self.bus.publish(CUSTOMERS, [customer_message(number, **said) for number in numbers])
        await self.bus.settle()

    async def offer(self, *numbers: int, **said: Any) -> None:
        await self.bus.publish(OFFERS, [offer_message(number, **said) for number in numbers])
        await self.bus.settle()

    def messages(self, **wanted: Any) -> list[dict[str, Any]]:
        return opened(self.database["messages"].find(wanted))

    def states(self) -> list[tuple[str, str | None]]:
        return [(message["state"], message.get("reason")) for message in self.messages()]

    def deliveries(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.bus.events(DELIVERIES)]

    def outcomes(self) -> list[tuple[str, str | None]]:
        return [(delivery["outcome"], delivery["reason"]) for delivery in self.deliveries()]

    def leases_run_out(self) -> None:
        """As if the time that a claim may take had passed on the wall's clock."""
        self.database["messages"].update_many({"state": "sending"}, {"$set": {"leased_until": datetime(2000, 1, 1, tzinfo=UTC)}})
