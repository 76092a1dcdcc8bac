"""Totals and scores, always from the read model, with the moment it is as of: asked for first, so that what follows is newer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from services.segmentation.domain.scoring import iso_day
from services.segmentation.domain.summary import TOTALS
from services.segmentation.store import history
from services.segmentation.store import scores as store
from shared.access.audit import about_all
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.mongo import in_store
from shared.problems import Problem

Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[str, Query(description="The `next` of the page before.")]
Order = Literal["value_at_risk", "expected_value"]
Days = Annotated[int, Query(ge=1, le=history.KEPT_DAYS, description="How many days back from the newest.")]
MOST_LOOKED_UP = 1000


class Lookup(BaseModel):
    """Whose scores are asked for."""

    customer_ids: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=MOST_LOOKED_UP)]


def add_totals(router: APIRouter) -> None:
    """What all customers add up to."""

    @router.get("/v1/totals", dependencies=[needs(Scope.REPORTS_READ)])
    async def totals() -> dict[str, Any]:
        """Exact sums over all rows, and how far each partition has read."""
        summaries = await in_store(store.read_summaries)
        added: Counter[str] = Counter()
        for each in summaries:
            added.update(each["totals"])
        applied = {str(each["_id"]): each["applied"] for each in summaries}
        return {**{name: added[name] for name in TOTALS}, "as_of": store.as_of(summaries), "applied": applied}

    @router.get("/v1/summary", dependencies=[needs(Scope.REPORTS_READ)])
    async def summary() -> dict[str, Any]:
        """Customers and money by value class and by risk band."""
        summaries = await in_store(store.read_summaries)
        classes = _add_up(each["classes"] for each in summaries)
        spent = sum(each["year_spend_minor"] for each in classes.values())
        buyers = sum(each["customers"] for name, each in classes.items() if name != "none")
        for name, each in classes.items():
            each["spend_share"] = _share(each["year_spend_minor"], spent)
            each["customer_share"] = _share(each["customers"], buyers) if name != "none" else 0.0
        return {
            "rfm_cells": _add_up(each["cells"] for each in summaries),
            "value_classes": classes,
            "risk_bands": _add_up(each["bands"] for each in summaries),
            "as_of": store.as_of(summaries),
        }

    @router.get("/v1/value-curve", dependencies=[needs(Scope.REPORTS_READ)])
    async def value_curve() -> dict[str, Any]:
        """The 80/20 curves as they were last seen: consumers', and traders' where they are told apart; by spend or by profit."""
        curves = await in_store(store.read_curves)
        if not curves:
            return {**_curve(_NO_CURVE), "traders": None, "basis": None, "as_of": None}
        best = max(curves, key=lambda each: (each["as_of"], each["buyers"]))
        traders = best.get("traders")
        return {
            **_curve(best),
            "traders": _curve(traders) if traders else None,
            "basis": best.get("basis", "spend"),
            "as_of": best["as_of"],
        }


def add_scores(router: APIRouter) -> None:
    """One customer's scores, those of many, and the best by a score."""

    @router.get("/v1/customers/{customer_id}/scores", dependencies=[needs(Scope.PROFILES_READ)])
    async def scores_of(customer_id: str) -> dict[str, Any]:
        """The scores and segments of one customer; of who is part of another customer, that one's, under its id."""
        found = await in_store(store.read_scores_of, (customer_id,))
        if customer_id not in found:
            raise unknown_customer(customer_id)
        return _as_asked(customer_id, found[customer_id])

    @router.post("/v1/scores/lookup", dependencies=[needs(Scope.PROFILES_READ)])
    async def scores_of_many(asked: Lookup) -> dict[str, Any]:
        """The scores and segments of up to 1,000 customers, in the order asked for; who is unknown is named."""
        as_of = await in_store(store.read_as_of)
        found = await in_store(store.read_scores_of, asked.customer_ids)
        about_all(found)
        rows = [_as_asked(each, found[each]) for each in asked.customer_ids if each in found]
        unknown = [each for each in dict.fromkeys(asked.customer_ids) if each not in found]
        return {"customers": rows, "unknown": unknown, "as_of": as_of}

    @router.get("/v1/customers/{customer_id}/history", dependencies=[needs(Scope.PROFILES_READ)])
    async def history_of(customer_id: str, days: Days = history.KEPT_DAYS) -> dict[str, Any]:
        """How a customer's scores went, oldest first: a point for each day on which something worth telling changed."""
        points = await in_store(history.read_score_points, customer_id)
        if not points and not await in_store(store.read_scores_of, (customer_id,)):
            raise unknown_customer(customer_id)
        shown = [point for point in points if point["day"] > points[-1]["day"] - days]
        return {"customer_id": customer_id, "points": [_point(point) for point in shown]}

    @router.get("/v1/scores", dependencies=[needs(Scope.PROFILES_READ)])
    async def best(order: Order = "value_at_risk", limit: Limit = 10, after: After = "") -> dict[str, Any]:
        """Customers by a score, highest first; equal ones by id."""
        column = f"{order}_minor"
        as_of = await in_store(store.read_as_of)
        rows = await in_store(store.read_best, column, limit, _place(after))
        about_all(row["_id"] for row in rows)
        last = f"{rows[-1][column]}/{rows[-1]['_id']}" if len(rows) == limit else None
        return {"customers": [customer(row) for row in rows], "next": last, "as_of": as_of}


def unknown_customer(customer_id: str) -> Problem:
    """What is answered where there is no such customer."""
    return Problem(404, "Unknown customer", f"Segmentation holds no customer {customer_id}; look the id up at identity.")


def _point(point: dict[str, Any]) -> dict[str, Any]:
    return {"on": iso_day(point["day"]), **{name: value for name, value in point.items() if name not in ("_id", "day")}}


def customer(row: dict[str, Any]) -> dict[str, Any]:
    """A customer as he is answered."""
    return {"customer_id": row["_id"], **{name: value for name, value in row.items() if name not in ("_id", "partition")}}


def _as_asked(customer_id: str, row: dict[str, Any]) -> dict[str, Any]:
    """Of who is part of another customer, that one; then it is said who was asked for."""
    return customer(row) if row["_id"] == customer_id else {**customer(row), "asked_for": customer_id}


def _place(after: str) -> tuple[int, str] | None:
    if not after:
        return None
    value, _, customer = after.partition("/")
    if not value.isdecimal() or not customer:
        raise Problem(422, "Invalid request", "`after` must be the `next` of the page before.")
    return int(value), customer


_NO_CURVE: dict[str, Any] = {"buyers": 0, "class_a_minor": None, "class_b_minor": None, "customer_share": [], "spend_share": []}


def _curve(kept: dict[str, Any]) -> dict[str, Any]:
    points = [
        {"customer_share": customers, "spend_share": spend}
        for customers, spend in zip(kept["customer_share"], kept["spend_share"], strict=True)
    ]
    figures = {name: kept[name] for name in ("buyers", "class_a_minor", "class_b_minor")}
    return figures | {"of_all_buyers": kept.get("of_all_buyers", False), "points": points}


def _add_up(tables: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, Any]]:
    added: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for table in tables:
        for name, row in table.items():
            added[name].update(row)
    return {name: dict(row) for name, row in added.items()}


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole > 0 else 0.0
