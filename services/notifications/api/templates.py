"""The templates there are, and how they look."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from services.notifications.settings import NotificationsSettings
from services.notifications.templates import SUBJECT, CannotRender, Rendered, Templates, Words
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.interactions import Scalar
from shared.problems import Problem

SAMPLE: Mapping[str, Scalar] = {"discount_percent": 10, "points": 120, "url": "https://shop.example/"}
SAMPLE_DAYS = 14


def create_templates_router(templates: Templates, settings: NotificationsSettings, clock: Clock) -> APIRouter:
    """Templates and their previews."""
    router = APIRouter(prefix="/templates", tags=["templates"], dependencies=[needs(Scope.REPORTS_READ)])

    def rendered(name: str, language: str | None, sample: bool) -> Rendered:
        content = SAMPLE if sample else {}
        link = f"{settings.public_url.rstrip('/')}/v1/unsubscribe/preview"
        words = Words(settings.sender_name, "Ada", content, (clock.now() + timedelta(days=SAMPLE_DAYS)).date(), link)
        try:
            return templates.render(name, language, words)
        except CannotRender as error:
            raise Problem(404 if name not in templates.languages else 422, "Cannot be rendered", str(error)) from error

    @router.get("")
    async def list_templates() -> dict[str, Any]:
        """Every template with its languages and subjects."""
        listed = [
            {"name": name, "subjects": {language: rendered(name, language, True).subject for language in languages}}
            for name, languages in templates.languages.items()
        ]
        return {"templates": listed, "content": list(SAMPLE)}

    @router.get("/{name}/preview")
    async def preview(name: str, language: str | None = None, part: Literal["html", "text"] = "html", sample: bool = True) -> Response:
        """A template as a customer would see it, with sample content or (`sample=false`) none."""
        mail = rendered(name, language, sample)
        headers = {"Content-Language": mail.language}
        if part == "text":
            return PlainTextResponse(f"{SUBJECT}{mail.subject}\n\n{mail.text}", headers=headers)
        return HTMLResponse(mail.html, headers=headers)

    return router
