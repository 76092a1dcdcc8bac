"""What `dear import` is told: by its options, and by the environment that identity's settings come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from services.identity.settings import IdentitySettings
from stack.importing.mapping import Kind, MappingError


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the command was told."""

    kind: Kind
    file: Path
    mapping: Path | None = None
    source: str | None = None
    as_of: str | None = None
    verdicts: Path | None = None
    dry_run: bool = False
    as_json: bool = False
    data_dir: Path = Path("var")
    kafka: str | None = None


def settings_of() -> IdentitySettings:
    """Identity's, as it has them where this command runs. Raises MappingError."""
    try:
        return IdentitySettings()
    except ValidationError as error:
        faults = "; ".join(
            f"DEAR_{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg'].removeprefix('Value error, ')}" for fault in error.errors()
        )
        raise MappingError(f"invalid settings in the environment: {faults}") from None
