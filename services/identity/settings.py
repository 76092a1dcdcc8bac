"""What identity is told from outside."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.settings import Settings


class IdentitySettings(Settings):
    """Identity's own choices."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8081
    reference_cache: Annotated[int, Field(ge=1000)] = 100_000
    """How many references a process keeps in memory; about 300 bytes each."""
