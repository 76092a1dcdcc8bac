"""What a mail program asks for when it shows a mail, and where links in mails lead past."""

from __future__ import annotations

import logging
from base64 import b64decode

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response
from starlette.background import BackgroundTask

from services.notifications.api.signing import SignedLinks
from services.notifications.domain.interactions import Kind
from services.notifications.links import BadToken, Use
from services.notifications.responses import Responses, not_ours
from shared.access.gate import public
from shared.problems import Problem
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""One transparent point."""
UNCACHED = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def create_tracking_router(signed: SignedLinks, responses: Responses) -> APIRouter:
    """Whatever becomes of the note, the reader gets the picture, or to where the link leads: it is made when they have their answer."""
    router = APIRouter(tags=["tracking"], dependencies=[public])

    async def note(kind: Kind, message_id: str, link: str | None = None) -> None:
        try:
            await responses.note(kind, message_id, link)
        except Unavailable:
            log.warning("the database is away: one %s is not noted", kind)

    @router.get("/open/{token}", response_class=Response, responses={200: {"content": {"image/gif": {}}}})
    async def opened(token: str) -> Response:
        """The picture, always; the first time on a day it is noted that the mail was opened."""
        noting = None
        try:
            noting = BackgroundTask(note, Kind.OPENED, await signed.message_behind(Use.OPEN, token))
        except BadToken:
            not_ours(Kind.OPENED)
        except Unavailable:
            pass
        return Response(PIXEL, media_type="image/gif", headers=UNCACHED, background=noting)

    @router.get("/click/{token}", status_code=302, response_class=RedirectResponse)
    async def clicked(token: str, to: str = "") -> RedirectResponse:
        """On to the target, if the mail held this link to it; the first time on a day it is noted that one was followed."""
        try:
            message_id = await signed.message_behind(Use.CLICK, token, to)
        except BadToken as error:
            not_ours(Kind.CLICKED)
            raise Problem(404, "No such link", f"No mail of ours holds this link ({error}); copy it whole from the mail.") from error
        return RedirectResponse(to, 302, headers=UNCACHED, background=BackgroundTask(note, Kind.CLICKED, message_id, to))

    return router
