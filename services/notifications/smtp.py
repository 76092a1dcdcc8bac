"""Handing mail over to a server, with connections kept open; each answer says whether the mail can have gone out."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from aiosmtplib import SMTP, SMTPDataError, SMTPException, SMTPRecipientRefused, SMTPResponseException, SMTPServerDisconnected

from services.notifications import metrics
from services.notifications.domain.reasons import Reason
from services.notifications.letters import Letter
from services.notifications.settings import NotificationsSettings

CLOSING = 421


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server will never take it."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class NotTaken:
    """It certainly did not go out; try again. `TRY_LATER` is about this mail, `SERVER_AWAY` about all of them."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The connection broke, or the answer stayed out, while the server had the mail."""

    detail: str


HandOver = Accepted | Refused | NotTaken | Uncertain


class Courier:
    """A few connections to one mail server, each used by one mail at a time."""

    def __init__(self, settings: NotificationsSettings) -> None:
        self._settings = settings
        self._idle: list[SMTP] = []

    async def hand_over(self, letter: Letter) -> HandOver:
        """Hand one mail over. Never raises for what a server does."""
        with metrics.SMTP_SECONDS.time():
            return await self._hand_over(letter)

    async def _hand_over(self, letter: Letter) -> HandOver:
        try:
            async with asyncio.timeout(self._settings.smtp_timeout_seconds):
                client = await self._addressed(letter)
        except SMTPRecipientRefused as error:
            return _of_answer(error, Reason.RECIPIENT_REFUSED)
        except (SMTPException, OSError, TimeoutError) as error:
            return NotTaken(Reason.SERVER_AWAY, _words(error))
        return await self._deliver(client, letter)

    async def close(self) -> None:
        """Take leave of the server."""
        while self._idle:
            await _leave(self._idle.pop())

    async def _addressed(self, letter: Letter) -> SMTP:
        """A connection on which the server has accepted sender and recipient."""
        while self._idle:
            client = self._idle.pop()
            try:
                return await self._address(client, letter)
            except SMTPServerDisconnected:
                continue  # The server had closed an idle connection; the next may live.
        return await self._address(await self._connected(), letter)

    async def _connected(self) -> SMTP:
        settings = self._settings
        client = SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            timeout=settings.smtp_timeout_seconds,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            local_hostname=socket.gethostname(),
            username=settings.smtp_username,
            password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        return client

    async def _address(self, client: SMTP, letter: Letter) -> SMTP:
        try:
            await client.mail(letter.sender)
            await client.rcpt(letter.recipient)
        except SMTPRecipientRefused:
            await self._keep(client)
            raise
        except BaseException:
            client.close()
            raise
        return client

    async def _deliver(self, client: SMTP, letter: Letter) -> HandOver:
        try:
            async with asyncio.timeout(self._settings.smtp_timeout_seconds):
                await client.data(letter.content)
        except SMTPDataError as error:
            await self._keep(client)
            return _of_answer(error, Reason.CONTENT_REFUSED)
        except (SMTPException, OSError) as error:
            client.close()
            return Uncertain(_words(error))
        except BaseException:
            client.close()
            raise
        self._idle.append(client)
        return Accepted()

    async def _keep(self, client: SMTP) -> None:
        """Use a connection again after a refusal; where that fails, let it go."""
        try:
            await client.rset()
        except (SMTPException, OSError):
            client.close()
        else:
            self._idle.append(client)


def _of_answer(error: SMTPResponseException, reason: Reason) -> HandOver:
    if error.code == CLOSING:
        return NotTaken(Reason.SERVER_AWAY, _words(error))
    return Refused(reason, _words(error)) if error.code >= 500 else NotTaken(Reason.TRY_LATER, _words(error))


def _words(error: BaseException) -> str:
    text = f"{error.code} {error.message}" if isinstance(error, SMTPResponseException) else f"{type(error).__name__}: {error}"
    return text[:300]


async def _leave(client: SMTP) -> None:
    try:
        await client.quit()
    except (SMTPException, OSError):
        client.close()
