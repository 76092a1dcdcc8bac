"""Segments: how many are in them and who, rules of one's own, why somebody is in or not, and what a rule would hold."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError

from services.segmentation.answering import EXPLAIN, SAMPLE, WHAT_IF
from services.segmentation.api.scores import After, Days, Limit, customer, unknown_customer
from services.segmentation.domain.rules import CHOICES, QUANTITIES
from services.segmentation.domain.scoring import iso_day
from services.segmentation.domain.segments import FIRST_OWN_BIT, SHIPPED, Segment, Segments
from services.segmentation.domain.sizes import PartSize, sizes_by_day
from services.segmentation.domain.state.consents import CONSENTS
from services.segmentation.own_segments import OWN_BITS, read_segments
from services.segmentation.store import history, scores
from services.segmentation.store import segments as store
from shared.access.audit import about_all
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.topics import PARTITION_COUNT
from shared.mongo import in_store
from shared.problems import Problem
from shared.streaming.partitions import partition_for

BIT_RESTS = timedelta(days=1)
"""A retired segment's bit is not given to another for so long: every row has been judged again by then."""
MOST_HOMES = 4
"""A customer that was merged may have been merged again; more than that in one moment is not waited for."""
ANSWERED_WITHIN_SECONDS = 10.0
LOOK_SECONDS = 0.05

MOST_BYTES = 65_536
_MEDIA = ("application/json", "application/yaml")
WITH_DEFINITION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "`about`, `enters`, and `stays` where leaving has a rule of its own.",
        "content": {media: {"schema": {"type": "object"}} for media in _MEDIA},
    }
}


async def read_definition(request: Request) -> dict[str, Any]:
    """A definition as JSON or, where the content type says so, YAML. Raises 400 and 413."""
    body = await request.body()
    if len(body) > MOST_BYTES:
        raise Problem(413, "Too large", f"A definition has at most {MOST_BYTES} bytes.")
    is_yaml = "yaml" in request.headers.get("content-type", "")
    try:
        found = yaml.safe_load(body) if is_yaml else json.loads(body)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise Problem(400, "Not readable", f"{'YAML' if is_yaml else 'JSON'} is expected: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise Problem(422, "Invalid rule", "A definition is an object with `enters`, and maybe `about` and `stays`.")
    return found


Definition = Annotated[dict[str, Any], Depends(read_definition)]
PUT_ANSWERS: dict[int | str, dict[str, Any]] = {
    201: {"description": "New."},
    409: {"description": "It ships with Dear, or there is no room."},
}
_WHAT_IF_NAME = "what_if"


def add_segments(router: APIRouter) -> None:
    """Who is in which segment."""

    @router.get("/v1/segments", dependencies=[needs(Scope.REPORTS_READ)])
    async def segments() -> dict[str, Any]:
        """How many customers are in each segment."""
        summaries, known = await in_store(scores.read_summaries), await in_store(read_segments)
        added: Counter[str] = Counter(dict.fromkeys(known.names(), 0))
        for each in summaries:
            added.update({name: count for name, count in each["segments"].items() if name in added})
        return {"segments": dict(added), "as_of": scores.as_of(summaries)}

    @router.get("/v1/segments/definitions", dependencies=[needs(Scope.REPORTS_READ)])
    async def definitions() -> dict[str, Any]:
        """The rules of all segments, and the words that rules are made of."""
        known = await in_store(read_segments)
        rules = [
            {**segment.model_dump(by_alias=True, exclude_none=True, exclude={"retired"}), "shipped": bit < FIRST_OWN_BIT}
            for bit, segment in known.by_bit.items()
            if not segment.retired
        ]
        words = {
            "numbers": {name: {"about": of.about, "buyers_only": of.buyers_only} for name, of in QUANTITIES.items()},
            "choices": {name: list(values) for name, (values, _) in CHOICES.items()},
            "consents": list(CONSENTS),
        }
        return {"segments": rules, "words": words}

    @router.get("/v1/segments/{name}/members", dependencies=[needs(Scope.PROFILES_READ)])
    async def members(name: str, limit: Limit = 100, after: After = "") -> dict[str, Any]:
        """The customers in a segment, by id."""
        check_known(name, await in_store(read_segments))
        as_of = await in_store(scores.read_as_of)
        rows = await in_store(scores.read_members, name, limit, after)
        about_all(row["_id"] for row in rows)
        last = rows[-1]["_id"] if len(rows) == limit else None
        return {"segment": name, "members": [customer(row) for row in rows], "next": last, "as_of": as_of}

    @router.get("/v1/segments/{name}/history", dependencies=[needs(Scope.REPORTS_READ)])
    async def history_of(name: str, days: Days = history.KEPT_DAYS) -> dict[str, Any]:
        """How many customers were in a segment day by day, oldest first; the newest day is not over yet."""
        check_known(name, await in_store(read_segments))
        parts = await in_store(history.read_size_points, name)
        sizes = sizes_by_day(PartSize(part["day"], part["partition"], part["size"], part["as_of"]) for part in parts)
        shown = [each for each in sizes if each.day > sizes[-1].day - days]
        return {"segment": name, "points": [{"on": iso_day(each.day), "customers": each.size, "as_of": each.as_of} for each in shown]}


def add_own_segments(router: APIRouter, clock: Clock) -> None:
    """Rules of one's own."""

    @router.put("/v1/segments/{name}", dependencies=[needs(Scope.RULES_WRITE)], responses=PUT_ANSWERS, openapi_extra=WITH_DEFINITION)
    async def put(name: str, definition: Definition, response: Response) -> dict[str, Any]:
        """Write a segment. Everyone is judged by it in the next round of re-scoring, which begins at once."""
        if name in SHIPPED.names():
            raise Problem(409, "Ships with Dear", f"{name} ships with Dear and stays as it is; choose another name.")
        segment = _segment(name, definition)
        kept = segment.model_dump(by_alias=True, exclude_none=True, exclude={"name", "retired"})
        try:
            is_new = await in_store(store.put, name, kept, OWN_BITS, clock.now(), BIT_RESTS)
        except store.NoRoom:
            raise Problem(409, "No room", f"There can be {len(OWN_BITS)} segments of your own; delete one, and wait a day.") from None
        response.status_code = 201 if is_new else 200
        return {"name": name, **kept}

    @router.delete("/v1/segments/{name}", dependencies=[needs(Scope.RULES_WRITE)], status_code=204)
    async def delete(name: str) -> None:
        """Everyone leaves a segment of one's own."""
        if name in SHIPPED.names():
            raise Problem(409, "Ships with Dear", f"{name} ships with Dear and cannot be deleted.")
        if not await in_store(store.retire, name, clock.now()):
            raise Problem(404, "Unknown segment", f"There is no segment {name} of your own.")


def add_questions(router: APIRouter) -> None:
    """What only the holders of rows can answer."""

    @router.get("/v1/segments/{name}/explain/{customer_id}", dependencies=[needs(Scope.PROFILES_READ)])
    async def explain(name: str, customer_id: str) -> dict[str, Any]:
        """Why a customer is in a segment, or is not: the rule with each part's verdict and value."""
        check_known(name, await in_store(read_segments))
        try:
            bytes.fromhex(customer_id)
        except ValueError:
            raise Problem(422, "Invalid request", "A customer id has 32 hexadecimal digits.") from None
        found: dict[str, Any] = {"part_of": customer_id}
        for _ in range(MOST_HOMES):
            if "part_of" not in found:
                break
            whom = found["part_of"]
            number = partition_for(whom.encode())
            found = (await _answers(EXPLAIN, {"segment": name, "customer_id": whom}, [number]))[str(number)]
        if not found or "part_of" in found:
            raise unknown_customer(customer_id)
        return {"segment": name, "customer_id": whom, **found}

    @router.post("/v1/segments/what-if", dependencies=[needs(Scope.PROFILES_READ)], openapi_extra=WITH_DEFINITION)
    async def what_if(definition: Definition) -> dict[str, Any]:
        """Who would enter by a rule: how many, what they are worth, which segments they are in. Nothing is changed."""
        segment = _segment(_WHAT_IF_NAME, definition)
        about = {"segment": segment.model_dump(by_alias=True, exclude_none=True)}
        parts = (await _answers(WHAT_IF, about, range(PARTITION_COUNT))).values()
        added: Counter[str] = Counter()
        for part in parts:
            added.update(part["segments"])
        names = ("customers", "expected_value_minor", "value_at_risk_minor")
        sample = [customer for part in parts for customer in part["sample"]][:SAMPLE]
        about_all(sample)
        return {
            **{name: sum(part[name] for part in parts) for name in names},
            "segments": {name: count for name, count in added.most_common() if count},
            "sample": sample,
        }


def check_known(name: str, known: Segments) -> None:
    """Raises the problem that is answered where there is no such segment."""
    names = known.names()
    if name not in names:
        raise Problem(404, "Unknown segment", f"There is no segment {name}; there are: {', '.join(names)}.")


def _segment(name: str, definition: dict[str, Any]) -> Segment:
    try:
        return Segment.model_validate({key: value for key, value in definition.items() if key != "retired"} | {"name": name})
    except ValidationError as error:
        faults = [{"at": _path(fault["loc"]), "fault": fault["msg"]} for fault in error.errors(include_url=False)]
        detail = "; ".join(f"{fault['at']}: {fault['fault']}" for fault in faults[:5])
        raise Problem(422, "Invalid rule", detail, errors=faults) from None


def _path(loc: Sequence[int | str]) -> str:
    """Where in the rule, as its writer sees it: without pydantic's names of the alternatives, which follow each place of a rule."""
    path: list[str] = []
    is_rule = False
    for part in loc:
        if is_rule:
            is_rule = False
            continue
        path.append(str(part))
        is_rule = isinstance(part, int) or part in ("enters", "stays", "not")
    return "/".join(path) or "/"


async def _answers(kind: str, about: dict[str, Any], partitions: Sequence[int]) -> dict[str, Any]:
    question = uuid.uuid4().hex
    asked = {"_id": question, "kind": kind, "about": about, "partitions": list(partitions), "asked_at": datetime.now(UTC)}
    await in_store(store.ask, asked)
    try:
        async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
            # The workers answer through the database, which calls nobody back.
            while set(map(str, partitions)) - set(found := await in_store(store.answers, question)):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
            return found
    except TimeoutError:
        raise Problem(503, "Not answered", "Not every worker answered in time; try again shortly.", {"Retry-After": "5"}) from None
    finally:
        await in_store(store.forget, question)
