"""From a message and a contact to a letter: language, words, and the link that ends it."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from services.notifications.domain.contacts import Contact
from services.notifications.domain.messages import Message
from services.notifications.domain.quiet_hours import zone_named
from services.notifications.domain.reasons import Reason
from services.notifications.letters import Letter, NotAnAddress, Sender, compose
from services.notifications.settings import NotificationsSettings
from services.notifications.templates import CannotRender, Templates, Words
from services.notifications.unsubscribe import token_for


class CannotWrite(Exception):
    """This message can never be written; `reason` says whose fault that is."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Writer:
    """Writes letters in the company's name."""

    def __init__(self, templates: Templates, settings: NotificationsSettings) -> None:
        self.templates = templates
        self._settings = settings
        self._sender = Sender(settings.sender_name, settings.sender_address)
        self._home_zone = ZoneInfo(settings.home_time_zone)
        self._key: bytes | None = None

    def use_key(self, key: bytes) -> None:
        """Sign links with this key from now on."""
        self._key = key

    def language_of(self, message: Message, contact: Contact | None) -> str:
        """The language that this customer gets this message in."""
        return self.templates.language_for(message.template, contact.language if contact else None)

    def write(self, message: Message, contact: Contact | None, at: datetime) -> Letter:
        """Write the letter. Raises CannotWrite."""
        if contact is None:
            raise CannotWrite(Reason.NO_ADDRESS, "nothing is known of the customer")
        link = self._way_out(message)
        try:
            rendered = self.templates.render(message.template, contact.language, self._words(message, contact, link))
            return compose(
                rendered,
                message_id=message.message_id,
                sender=self._sender,
                recipient=contact.addresses[message.channel],
                at=at,
                unsubscribe_url=link,
            )
        except CannotRender as error:
            raise CannotWrite(Reason.TEMPLATE_FAILED, str(error)) from error
        except NotAnAddress as error:
            raise CannotWrite(Reason.RECIPIENT_REFUSED, str(error)) from error
        except ValueError as error:
            raise CannotWrite(Reason.CONTENT_REFUSED, f"no mail can say this: {error}") from error

    def _words(self, message: Message, contact: Contact, link: str | None) -> Words:
        expires_on = message.expires_at.astimezone(zone_named(contact.time_zone, self._home_zone)).date()
        return Words(self._settings.sender_name, contact.first_name, message.content, expires_on, link)

    def _way_out(self, message: Message) -> str | None:
        """The unsubscribe link; service messages have none, because they are not marketing."""
        if message.purpose != "marketing":
            return None
        if self._key is None:
            raise RuntimeError("the service has not started: there is no key to sign links with")
        return f"{self._settings.public_url.rstrip('/')}/v1/unsubscribe/{token_for(message.message_id, self._key)}"
