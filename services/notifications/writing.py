"""From a message and a contact to a letter: language, words, the link that ends it, and what tells that it was read."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from services.notifications.domain.contacts import Contact
from services.notifications.domain.interactions import is_tracked
from services.notifications.domain.messages import Message
from services.notifications.domain.quiet_hours import zone_named
from services.notifications.domain.reasons import Reason
from services.notifications.letters import Letter, NotAnAddress, Sender, compose
from services.notifications.links import Links
from services.notifications.settings import NotificationsSettings
from services.notifications.templates import CannotRender, Templates, Words


class CannotWrite(Exception):
    """This message can never be written; `reason` says whose fault that is."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Writer:
    """Writes letters in the company's name."""

    def __init__(self, templates: Templates, links: Links, settings: NotificationsSettings) -> None:
        self.templates, self._links = templates, links
        self._settings = settings
        self._sender = Sender(settings.sender_name, settings.sender_address)
        self._home_zone = ZoneInfo(settings.home_time_zone)

    def is_tracked(self, message: Message) -> bool:
        """Does the letter of this message hold what tells that it was read?"""
        return is_tracked(message, self._settings.track_opens)

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

    def page(self, name: str, contact: Contact | None, **values: object) -> str:
        """A page of ours, in the customer's language."""
        return self.templates.page(name, contact.language if contact else None, shop=self._settings.sender_name, **values)

    def _words(self, message: Message, contact: Contact, link: str | None) -> Words:
        expires_on = message.expires_at.astimezone(zone_named(contact.time_zone, self._home_zone)).date()
        words = Words(self._settings.sender_name, contact.first_name, message.content, expires_on, link)
        if not self.is_tracked(message):
            return words
        return replace(words, pixel_url=self._links.pixel(message.message_id), tracked=partial(self._links.tracked, message.message_id))

    def _way_out(self, message: Message) -> str | None:
        """The unsubscribe link; service messages have none, because they are not marketing."""
        return self._links.unsubscribe(message.message_id) if message.purpose == "marketing" else None
