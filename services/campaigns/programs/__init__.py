"""The programs that Dear ships with, one JSON file each."""

from __future__ import annotations

from importlib import resources

from services.campaigns.domain.programs import Program


def shipped_programs() -> list[Program]:
    """The first version of each, as a new installation starts with them."""
    files = sorted(resources.files(__name__).iterdir(), key=lambda file: file.name)
    return [Program.model_validate_json(file.read_text()) for file in files if file.name.endswith(".json")]
