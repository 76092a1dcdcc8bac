"""The way out of marketing: the page behind the link in a mail, and the one click of RFC 8058."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from services.notifications import metrics
from services.notifications.api.signing import SignedLinks
from services.notifications.domain.contacts import Contact, Suppression
from services.notifications.domain.messages import SOURCE, Message
from services.notifications.links import BadToken, Use
from services.notifications.responses import Responses
from services.notifications.store import contacts, messages, suppressions
from services.notifications.writing import Writer
from shared.access.gate import public
from shared.clock import Clock
from shared.contracts.customers import ConsentChanged, ConsentStatement
from shared.contracts.envelope import derived_id, envelope
from shared.contracts.topics import CUSTOMER_UPDATES
from shared.mongo import in_store
from shared.problems import Problem
from shared.service import Publisher
from shared.streaming import records

WHY = "unsubscribed by the link in a mail"


def create_unsubscribe_router(publisher: Publisher, writer: Writer, signed: SignedLinks, responses: Responses, clock: Clock) -> APIRouter:
    """Reading the link changes nothing, because mail scanners read links; posting to it does, as often as it is posted."""
    router = APIRouter(prefix="/unsubscribe", tags=["unsubscribe"], dependencies=[public])

    async def message_behind(token: str) -> Message:
        try:
            message = await in_store(messages.find, await signed.message_behind(Use.UNSUBSCRIBE, token))
        except BadToken as error:
            raise Problem(404, "No such link", f"The link is not one of ours ({error}); copy it whole from the mail.") from error
        if message is None:
            raise Problem(404, "No such link", "The mail that this link came with is not known any more.")
        return message

    def page(contact: Contact | None, done: bool) -> HTMLResponse:
        return HTMLResponse(writer.page("unsubscribe", contact, done=done))

    @router.get("/{token}")
    async def ask(token: str) -> HTMLResponse:
        """Ask whether they mean it."""
        return page(await _contact(await message_behind(token)), done=False)

    @router.post("/{token}")
    async def end_marketing(token: str) -> HTMLResponse:
        """Suppress marketing on the message's channel at once, and tell identity that consent was withdrawn, and that they did this."""
        message = await message_behind(token)
        contact = await _contact(message)
        now = clock.now()
        suppression = Suppression(f"customer:{message.customer_id}", message.channel, "marketing", until_consent_after=now)
        await in_store(suppressions.add, suppression, WHY, now)
        reference = contact.reference_on(message.channel) if contact else None
        if reference is not None:
            await publisher.append(CUSTOMER_UPDATES, _withdrawal(message, reference, now))
            await responses.note_unsubscribed(message, reference, now)
        metrics.UNSUBSCRIBES.inc()
        return page(contact, done=True)

    return router


async def _contact(message: Message) -> Contact | None:
    return (await in_store(contacts.read, [message.customer_id])).get(message.customer_id)


def _withdrawal(message: Message, reference: str, at: datetime) -> records.Message:
    """The consent event; its id holds the time, since somebody may come back and leave again by the same mail."""
    statement = ConsentStatement(purpose="marketing", channel=message.channel, granted=False)
    data = ConsentChanged(reference=reference, consents=(statement,))
    event = envelope(data, id=derived_id("unsubscribe", message.message_id, at.isoformat()), source=SOURCE, time=at)
    return records.Message(reference.encode(), event.model_dump_json().encode())
