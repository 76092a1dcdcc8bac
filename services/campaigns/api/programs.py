"""Programs: read them, and make new versions. A version is never changed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ValidationError

from services.campaigns.domain.programs import Program, ProgramName
from services.campaigns.store import programs
from services.campaigns.store.programs import VersionTaken
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.mongo import in_store
from shared.problems import Problem


class Programs(BaseModel):
    """The newest version of every program, by name."""

    programs: list[Program]


class ProgramVersions(BaseModel):
    """All versions of one program, oldest first."""

    versions: list[Program]


def create_router(clock: Clock) -> APIRouter:
    """The endpoints about programs."""
    router = APIRouter(tags=["programs"])

    @router.get("/programs", dependencies=[needs(Scope.REPORTS_READ)])
    async def newest() -> Programs:
        """The newest version of every program."""
        by_name = {program.name: program for program in await in_store(programs.every_version)}
        return Programs(programs=list(by_name.values()))

    @router.get("/programs/{name}", dependencies=[needs(Scope.REPORTS_READ)], responses={404: {"description": "There is no such program."}})
    async def versions(name: ProgramName) -> ProgramVersions:
        """All versions of a program."""
        found = [program for program in await in_store(programs.every_version) if program.name == name]
        if not found:
            raise Problem(404, "Unknown program", f"There is no program {name}.")
        return ProgramVersions(versions=found)

    @router.put(
        "/programs/{name}",
        dependencies=[needs(Scope.RULES_WRITE)],
        status_code=201,
        responses={409: {"description": "Not the next version, or a second loyalty program."}},
    )
    async def add_version(name: ProgramName, definition: dict[str, Any]) -> Program:
        """Make a new version of a program, or the first of a new one.

        The version is one above the newest unless the definition names it; it starts now unless it names a time.
        """
        every = await in_store(programs.every_version)
        program = _checked(name, definition, every, clock)
        try:
            await in_store(programs.add, program, clock.now())
        except VersionTaken as taken:
            raise Problem(409, "Version taken", f"{taken} was made by somebody else just now; read it and send yours again.") from taken
        return program

    return router


def _checked(name: str, definition: dict[str, Any], every: list[Program], clock: Clock) -> Program:
    following = 1 + max((program.version for program in every if program.name == name), default=0)
    now = clock.now().isoformat()
    try:
        program = Program.model_validate(
            {"version": following, **definition, "name": name, "starts_at": definition.get("starts_at") or now}
        )
    except ValidationError as error:
        faults = [{"at": "/".join(str(part) for part in fault["loc"]) or "/", "fault": fault["msg"]} for fault in error.errors()]
        detail = "; ".join(f"{fault['at']}: {fault['fault']}" for fault in faults[:5])
        raise Problem(422, "Invalid program", detail, errors=faults) from error
    if program.version != following:
        raise Problem(409, "Wrong version", f"version: the next version of {name} is {following}, not {program.version}.")
    if program.kind == "loyalty" and any(other.kind == "loyalty" and other.name != name for other in every):
        raise Problem(
            409, "A second loyalty program", "kind: a purchase earns once, so make a new version of the loyalty program there is."
        )
    return program
