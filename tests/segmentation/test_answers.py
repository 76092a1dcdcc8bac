"""What people ask of many customers, of the past, and of what happens now: on a real broker and a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.segmentation.app import changes_at, compose
from services.segmentation.live_changes import LiveChanges, Wanted
from services.segmentation.settings import SegmentationSettings
from services.segmentation.store import history
from shared.clock import ReplayClock
from shared.contracts.customers import CustomerPublished
from shared.contracts.envelope import Event, envelope
from shared.contracts.scores import SegmentEntered, SegmentLeft
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMERS, SEGMENT_CHANGES
from shared.http import create_app
from shared.runtime import HttpServer
from shared.service import Service
from shared.streaming.progress import Progress
from shared.streaming.publisher import KafkaPublisher
from shared.streaming.reader import bounds_of_topic
from shared.streaming.records import Message
from tests.segmentation.test_whole import PEOPLE, START, Shop, a_shop, a_year, customer, fresh, holds_all, introductions, play, sources_at

__all__ = ["fresh"]


@asynccontextmanager
async def an_api_process(broker: str, free_port: int, directory: Path) -> AsyncIterator[Service]:
    """The HTTP side alone: no worker, no rows, no group."""
    clock = ReplayClock(START)
    settings = SegmentationSettings(clock="replay", data_dir=directory, KAFKA_BOOTSTRAP_SERVERS=broker)
    service = compose(KafkaPublisher(broker), settings, clock, sources_at(broker, directory), changes_at(broker))
    server = HttpServer(create_app(service, clock, Progress()), "127.0.0.1", free_port)
    server.start()
    try:
        yield service
    finally:
        service.hang_up()
        await server.stop()
        await service.stop()


class Stream:
    """An open stream of server-sent events, read by the rules of the standard."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.last_id = ""

    async def next(self, timeout_seconds: float = 30.0) -> tuple[str, Any]:
        """The next event's name and data. Raises StopAsyncIteration at the end."""
        async with asyncio.timeout(timeout_seconds):
            name, data = "message", ""
            while True:
                field, _, value = (await anext(self._lines)).partition(":")
                value = value.removeprefix(" ")
                if field == "id":
                    self.last_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data += value
                elif not field and not value:
                    if data:
                        return name, json.loads(data)
                    name, data = "message", ""

    async def take(self, count: int) -> list[dict[str, Any]]:
        return [(await self.next())[1] for _ in range(count)]


@asynccontextmanager
async def streaming(http: httpx.AsyncClient, query: str = "", last_id: str = "") -> AsyncIterator[Stream]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with http.stream("GET", f"/v1/segments/changes{query}", headers=headers) as answer:
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/event-stream"), await answer.aread()
        yield Stream(answer)


async def fill(shop: Shop) -> None:
    """A year in quarters, so that the read model sees several days."""
    told = [message for _, message in a_year()]
    await shop.publisher.publish(CUSTOMERS, introductions())
    for quarter in range(4):
        await shop.publisher.publish(CUSTOMER_EVENTS, told[quarter * len(told) // 4 : (quarter + 1) * len(told) // 4])
        least = (quarter + 1) * len(told) // 4
        await shop.wait_for("/v1/totals", lambda answer, least=least: _applied(answer) >= least)
    await shop.wait_for("/v1/totals", holds_all)


def _applied(answer: Any) -> int:
    return sum(each["offset"] + 1 for each in answer["applied"].values())


def test_scores_of_many_and_the_history_of_one_and_of_a_segment(broker: str, database: str, tmp_path: Path, fresh: None) -> None:
    async def story() -> None:
        async with a_shop(broker, database, tmp_path) as shop:
            await fill(shop)
            await shop.wait_for("/v1/segments/watch/history", lambda answer: len(answer["points"]) >= 2)
            await _ask_for_many(shop)
            await _ask_for_the_past(shop)
        async with a_shop(broker, database, tmp_path) as shop:
            assert len((await shop.get(f"/v1/customers/{customer(0)}/history"))["points"]) >= 2, "it outlives the worker"

    play(story)


async def _ask_for_many(shop: Shop) -> None:
    asked = [customer(number) for number in (5, 3, 99, 4, 3)] + ["nobody"]
    found = (await shop.http.post("/v1/scores/lookup", json={"customer_ids": asked})).json()
    assert [each["customer_id"] for each in found["customers"]] == [customer(number) for number in (5, 3, 4, 3)]
    assert found["unknown"] == [customer(99), "nobody"]
    assert found["as_of"] == (await shop.get("/v1/totals"))["as_of"]
    assert found["customers"][0] == await shop.get(f"/v1/customers/{customer(5)}/scores")
    everybody = [customer(number) for number in range(PEOPLE)] * 25
    answer = await shop.http.post("/v1/scores/lookup", json={"customer_ids": everybody})
    assert [each["customer_id"] for each in answer.json()["customers"]] == everybody
    for refused in ([], [*everybody, "one more"], [""]):
        answer = await shop.http.post("/v1/scores/lookup", json={"customer_ids": refused})
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def _ask_for_the_past(shop: Shop) -> None:
    known = await shop.get(f"/v1/customers/{customer(0)}/history")
    days = [date.fromisoformat(point["on"]) for point in known["points"]]
    assert days == sorted(set(days))
    assert len(days) >= 2
    assert all(0 <= point["risk"] <= 1 and point["value_class"] in "ABC" for point in known["points"])
    newest = await shop.get(f"/v1/customers/{customer(0)}/history?days=1")
    assert newest["points"] == known["points"][-1:]
    assert (await shop.http.get("/v1/customers/nobody/history")).status_code == 404
    assert (await shop.get(f"/v1/customers/{customer(PEOPLE)}/history"))["points"] == [], "a prospect has no scores to tell of"

    counts = await shop.wait_for("/v1/segments", lambda answer: sum(answer["segments"].values()) > 0)
    for name in ("prospects", "watch"):
        sizes = await shop.get(f"/v1/segments/{name}/history")
        days = [date.fromisoformat(point["on"]) for point in sizes["points"]]
        assert days == sorted(set(days))
        assert sizes["points"][-1]["customers"] == (await shop.get("/v1/segments"))["segments"][name]
    assert counts["segments"]["prospects"] == 2
    assert (await shop.http.get("/v1/segments/nothing/history")).status_code == 404


def test_who_was_merged_is_answered_for_by_the_customer_and_by_himself_after_a_split(
    broker: str, database: str, tmp_path: Path, fresh: None
) -> None:
    async def story() -> None:
        async with a_shop(broker, database, tmp_path) as shop:
            await fill(shop)
            before = {number: await shop.get(f"/v1/customers/{customer(number)}/scores") for number in (3, 5)}
            totals = await shop.get("/v1/totals")
            await shop.publisher.publish(CUSTOMERS, [published(3, 2, 5), published(5, 2, into=3)])
            scores = await shop.wait_for(f"/v1/customers/{customer(3)}/scores", lambda answer: "others" in answer)
            await _is_answered_for(shop, scores, before)
            merged = await shop.wait_for("/v1/totals", lambda answer: answer["customers"] == totals["customers"] - 1)
            assert {name: merged[name] for name in ("purchases", "bought_minor")} == {
                name: totals[name] for name in ("purchases", "bought_minor")
            }
        async with a_shop(broker, database, tmp_path) as shop:
            await shop.publisher.publish(CUSTOMERS, [published(3, 3), published(5, 3)])
            again = await _answered_by_himself(shop, f"/v1/customers/{customer(5)}/scores")
            of_the_row = ("frequency", "realised_minor", "purchases")
            assert [again[name] for name in of_the_row] == [before[5][name] for name in of_the_row]

    play(story)


async def _answered_by_himself(shop: Shop, path: str) -> dict[str, Any]:
    """Two partitions write the two answers: for a moment there may be none."""
    while (answer := await shop.http.get(path)).status_code == 404 or "asked_for" in answer.json():
        await asyncio.sleep(0.05)
    found: dict[str, Any] = answer.json()
    return found


def published(number: int, version: int, *others: int, into: int | None = None) -> Message:
    who = customer(number)
    data = CustomerPublished(
        customer_id=who, version=version, members=(who, *map(customer, others)), references=(), first_seen_at=START,
        merged_into=customer(into) if into is not None else None,
    )  # fmt: skip
    return Message(who.encode(), envelope(data, id=f"{who}/{version}", source="identity", time=START).model_dump_json().encode())


async def _is_answered_for(shop: Shop, scores: dict[str, Any], before: dict[int, dict[str, Any]]) -> None:
    assert scores["others"] == [customer(5)]
    assert scores["purchases"] == before[3]["purchases"] + before[5]["purchases"]
    asked = await shop.wait_for(f"/v1/customers/{customer(5)}/scores", lambda answer: answer["customer_id"] == customer(3))
    assert asked == {**scores, "as_of": asked["as_of"], "asked_for": customer(5)}
    found = (await shop.http.post("/v1/scores/lookup", json={"customer_ids": [customer(5), customer(3)]})).json()
    assert [(each["customer_id"], each.get("asked_for")) for each in found["customers"]] == [
        (customer(3), customer(5)),
        (customer(3), None),
    ]
    assert found["unknown"] == []
    explained = await shop.get(f"/v1/segments/loyal/explain/{customer(5)}")
    assert explained["customer_id"] == customer(3)
    assert explained["inside"] == ("loyal" in scores["segments"])
    assert (await shop.get(f"/v1/customers/{customer(5)}/history"))["points"], "how it went before stays"
    members = await shop.get(f"/v1/segments/{scores['segments'][0]}/members?limit=1000")
    assert customer(5) not in [each["customer_id"] for each in members["members"]]


def test_points_of_a_day_take_each_others_place_and_the_ring_turns(database: str, fresh: None) -> None:
    scores = dict.fromkeys(history.POINT_SCORES, 0)

    def points(*days: int, risk: float = 0.5) -> list[dict[str, Any]]:
        return [history.score_point(customer(1), day, START, {**scores, "risk": risk}) for day in days]

    history.write_score_points(points(20_000, 20_001))
    history.write_score_points(points(20_001, 20_002, risk=0.7))
    history.write_score_points(points(20_002, risk=0.7))
    assert [(each["day"], each["risk"]) for each in history.read_score_points(customer(1))] == [(20_000, 0.5), (20_001, 0.7), (20_002, 0.7)]
    for day in range(20_003, 20_450):
        history.write_score_points(points(day))
    kept = [each["day"] for each in history.read_score_points(customer(1))]
    assert kept == list(range(20_050, 20_450))
    history.write_score_points(points(20_900))
    assert [each["day"] for each in history.read_score_points(customer(1))] == [20_900], "older ones may have gaps that nobody can see"
    history.write_score_points([{**points(20_900)[0], "_id": f"{customer(2)}/0"}])
    history.forget(customer(1))
    assert history.read_score_points(customer(1)) == []
    assert len(history.read_score_points(customer(2))) == 1


def test_sizes_are_kept_by_partition_and_an_older_owner_changes_nothing(database: str, fresh: None) -> None:
    def write(partition: int, generation: int, day: int, size: int) -> None:
        history.write_size_points([history.size_point(partition, generation, day, START + timedelta(days=day), {"watch": size})])

    for written in ((0, 5, 1, 10), (0, 5, 1, 11), (0, 4, 1, 12), (1, 7, 1, 20), (1, 7, 2, 21), (0, 4, 401, 99)):
        write(*written)
    found = history.read_size_points("watch")
    assert [(each["partition"], each["day"], each["size"]) for each in found] == [(0, 1, 11), (1, 1, 20), (1, 2, 21)]
    assert [each["size"] for each in history.read_size_points("unheard_of")] == [None] * 3


def test_an_api_process_tells_who_enters_and_leaves_and_goes_on_where_a_listener_was(
    broker: str, database: str, tmp_path: Path, fresh: None, free_port: int
) -> None:
    async def story() -> None:
        told = [message for _, message in a_year()]
        async with (
            a_shop(broker, database, tmp_path) as shop,
            an_api_process(broker, free_port, tmp_path / "api"),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{free_port}", timeout=30) as http,
        ):
            # Who is in customers-v1 when its partitions are opened is history, and nobody's news.
            await shop.wait_for("/v1/totals", lambda answer: len(answer["applied"]) == 8)
            async with streaming(http) as everything, streaming(http, f"?segment=prospects&customer={customer(7)}") as one:
                await shop.publisher.publish(CUSTOMERS, introductions())
                await shop.wait_for("/v1/totals", lambda answer: answer["customers"] == PEOPLE + 2)
                await shop.publisher.publish(CUSTOMER_EVENTS, told)
                heard = await everything.take(60)
                (mine,) = await one.take(1)
                last_id, last_of_one = everything.last_id, one.last_id
            assert mine["type"] == SegmentEntered.event_type
            assert (mine["data"]["segment"], mine["data"]["customer_id"]) == ("prospects", customer(7))
            models = {model.event_type: Event[model] for model in (SegmentEntered, SegmentLeft)}  # type: ignore[valid-type]
            for event in heard:
                models[event["type"]].model_validate_json(json.dumps(event))

            await shop.wait_for("/v1/totals", holds_all)
            ends = {partition: end for partition, (_, end) in (await bounds_of_topic(broker, SEGMENT_CHANGES)).items()}
            async with streaming(http, last_id=last_id) as again:
                rest = await again.take(sum(ends.values()) - len(heard))
            assert len({event["id"] for event in [*heard, *rest]}) == len(heard) + len(rest)
            async with streaming(http, f"?customer={customer(7)}&after={last_of_one}") as again:
                assert (await again.take(1))[0]["data"]["change_number"] >= mine["data"]["change_number"]

            for query, status in (("?segment=unheard_of", 404), ("?after=yesterday", 422)):
                answer = await http.get(f"/v1/segments/changes{query}")
                assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")

    play(story)


def test_open_streams_end_when_the_process_leaves(broker: str, database: str, tmp_path: Path, fresh: None, free_port: int) -> None:
    async def story() -> None:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{free_port}", timeout=30) as http,
            an_api_process(broker, free_port, tmp_path) as service,
            streaming(http) as stream,
        ):
            service.hang_up()
            # A stream that the server has to break off after its patience is a protocol error, not an end.
            with pytest.raises(StopAsyncIteration):
                await stream.next()

    play(story)


def test_who_comes_back_to_a_log_that_was_made_anew_is_told(broker: str, database: str, fresh: None) -> None:
    async def story() -> None:
        live = LiveChanges(changes_at(broker))
        listener = await live.listen(Wanted(), "another-log:1.1.1.1.1.1.1.1")
        assert listener.missed == "log_replaced"
        await live.finish()

    play(story)
