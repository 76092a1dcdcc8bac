"""What campaigns is told from outside."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.settings import Settings


class CampaignsSettings(Settings):
    """Settings of campaigns."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8083
    point_value_minor: Annotated[int, Field(ge=0)] = 1
    """What one loyalty point is worth, in minor units of the reporting currency."""
