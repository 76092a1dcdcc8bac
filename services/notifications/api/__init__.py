"""What notifications answers over HTTP."""

from __future__ import annotations

from fastapi import APIRouter

from services.notifications.api.messages import create_messages_router
from services.notifications.api.signing import SignedLinks
from services.notifications.api.suppressions import create_suppressions_router
from services.notifications.api.templates import create_templates_router
from services.notifications.api.tracking import create_tracking_router
from services.notifications.api.unsubscribe import create_unsubscribe_router
from services.notifications.links import Links
from services.notifications.responses import Responses
from services.notifications.settings import NotificationsSettings
from services.notifications.writing import Writer
from shared.clock import Clock
from shared.service import Publisher


def create_router(
    publisher: Publisher, writer: Writer, links: Links, responses: Responses, *, settings: NotificationsSettings, clock: Clock
) -> APIRouter:
    """All routes of the service."""
    signed = SignedLinks(links)
    router = APIRouter(prefix="/v1")
    router.include_router(create_messages_router())
    router.include_router(create_templates_router(writer.templates, settings, clock))
    router.include_router(create_suppressions_router(clock))
    router.include_router(create_unsubscribe_router(publisher, writer, signed, responses, clock))
    router.include_router(create_tracking_router(signed, responses))
    return router
