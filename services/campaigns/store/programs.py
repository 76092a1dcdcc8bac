"""Programs: every version, kept as it was defined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar

from mongoengine import DateTimeField, DictField, Document, IntField, StringField
from pymongo.errors import DuplicateKeyError

from services.campaigns.domain.programs import Program
from shared.mongo import insert_new


class ProgramDocument(Document):
    """One version of one program."""

    meta: ClassVar = {"collection": "programs", "db_alias": "campaigns", "auto_create_index": False}

    id = StringField(primary_key=True)
    name = StringField(required=True)
    version = IntField(required=True)
    definition = DictField(required=True)
    created_at = DateTimeField(required=True)


_seen: dict[str, tuple[dict[str, Any], Program]] = {}
"""Definitions as they were found in the database, and what they say."""


class VersionTaken(Exception):
    """Somebody else made this version of the program first."""


def _programs() -> Any:
    return ProgramDocument._get_collection()


def _document(program: Program, at: datetime) -> dict[str, Any]:
    key = f"{program.name}@{program.version}"
    return {
        "_id": key,
        "name": program.name,
        "version": program.version,
        "definition": program.model_dump(mode="json"),
        "created_at": at,
    }


def ship(programs: Iterable[Program], at: datetime) -> None:
    """Keep the programs that Dear comes with, unless a program of that name was ever there."""
    names = {program.name for program in every_version()}
    insert_new(_programs(), [_document(program, at) for program in programs if program.name not in names])


def add(program: Program, at: datetime) -> None:
    """Keep a new version. Raises VersionTaken."""
    try:
        _programs().insert_one(_document(program, at))
    except DuplicateKeyError as error:
        raise VersionTaken(f"{program.name} {program.version}") from error


def every_version() -> list[Program]:
    """All versions of all programs, by name and version."""
    return sorted(map(_program, _programs().find()), key=lambda program: (program.name, program.version))


def _program(document: Mapping[str, Any]) -> Program:
    key, definition = document["_id"], document["definition"]
    seen = _seen.get(key)
    if seen is None or seen[0] != definition:
        # What a version says never changes, and every batch asks: reading it anew would take a tenth of the worker's time.
        seen = _seen[key] = (definition, Program.model_validate(definition))
    return seen[1]
