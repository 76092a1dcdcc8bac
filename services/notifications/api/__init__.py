"""What notifications answers over HTTP."""

from __future__ import annotations

from fastapi import APIRouter

from services.notifications.api.messages import create_messages_router
from services.notifications.api.suppressions import create_suppressions_router
from services.notifications.api.templates import create_templates_router
from services.notifications.api.unsubscribe import create_unsubscribe_router
from services.notifications.settings import NotificationsSettings
from services.notifications.writing import Writer
from shared.clock import Clock
from shared.service import Publisher


def create_router(publisher: Publisher, writer: Writer, settings: NotificationsSettings, clock: Clock) -> APIRouter:
    """All routes of the service."""
    router = APIRouter(prefix="/v1")
    router.include_router(create_messages_router())
    router.include_router(create_templates_router(writer.templates, settings, clock))
    router.include_router(create_suppressions_router(clock))
    router.include_router(create_unsubscribe_router(publisher, writer, settings, clock))
    return router
