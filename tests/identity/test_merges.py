"""Customers that turn out to be one, and those that turn out not to be, whatever is delivered again or dies in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect

from services.identity import merging
from services.identity.clerk import Clerk, on_privacy
from services.identity.domain.merging import Asked
from services.identity.domain.privacy import Kind, Request, Rules, State
from services.identity.domain.resolution import new_profile_id
from services.identity.merging import homes_of
from services.identity.settings import IdentitySettings
from services.identity.store import customers, merges, privacy, references
from shared.clock import WallClock
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMER_UPDATES, CUSTOMERS, DEAD_LETTERS, PRIVACY, TOPICS
from shared.letters import Letters
from shared.mongo import connect, disconnect
from shared.privacy import answer_privacy, reference_digest
from shared.streaming.errors import Unavailable
from shared.streaming.memory import MemoryBus
from shared.streaming.records import Batch
from shared.vault import vault_of
from tests.identity.test_api import client_of
from tests.identity.test_export import rows_of
from tests.identity.world import CARD, World, batch, consent, day, identify, interaction, merge, message, purchase, split, topic_of

pytestmark = pytest.mark.anyio
EMAIL = "email:ann@example.com"
ANN, ANN_TOO = new_profile_id(CARD), new_profile_id(EMAIL)


def known_by_readers(bus: MemoryBus) -> dict[str, dict[str, Any]]:
    """What a reader ends with that keeps the highest version of each id; the last of equal ones."""
    kept: dict[str, dict[str, Any]] = {}
    for customer_id, said in told_of_customers(bus):
        if said is None:
            kept.pop(customer_id, None)
        elif said["version"] >= kept.get(customer_id, said)["version"]:
            kept[customer_id] = said
    return kept


def last_written(bus: MemoryBus) -> dict[str, dict[str, Any]]:
    """What compaction leaves."""
    return {customer_id: said for customer_id, said in dict(told_of_customers(bus)).items() if said is not None}


def told_of_customers(bus: MemoryBus) -> list[tuple[str, dict[str, Any] | None]]:
    """Ids and what is said of them, None where they are gone."""
    records = bus.records(CUSTOMERS)
    return [((record.key or b"").decode(), json.loads(record.value)["data"] if record.value else None) for record in records]


async def two_and_a_form(world: World) -> None:
    """A card and an e-mail address buy; then a form names both."""
    await (await world.start()).send(purchase("1", at=day(0)), purchase("2", EMAIL, at=day(1)))
    await world.send(consent("3", True, EMAIL, at=day(1)))
    await world.send(identify("4", (CARD, EMAIL), at=day(2), traits={"city": "Bangkok"}))


async def test_a_form_that_names_two_customers_makes_them_one(world: World) -> None:
    await two_and_a_form(world)
    read = known_by_readers(world.bus)
    assert read == last_written(world.bus)
    assert (read[ANN]["members"], read[ANN]["references"]) == (sorted([ANN, ANN_TOO]), [CARD, EMAIL])
    assert (read[ANN]["traits"], read[ANN]["consents"][0]["granted"]) == ({"city": "Bangkok"}, True)
    assert (read[ANN_TOO]["merged_into"], read[ANN_TOO]["references"], read[ANN_TOO]["consents"]) == (ANN, [], [])
    assert customers.count() - references.count_absorbed() == 1


async def test_later_events_keep_their_profile_and_change_the_whole_customer(world: World) -> None:
    await two_and_a_form(world)
    await world.send(purchase("5", EMAIL, at=day(3)), consent("6", False, EMAIL, at=day(3)))
    keys = {json.loads(record.value or b"")["id"]: record.key for record in world.bus.records(CUSTOMER_EVENTS)}
    assert keys["5"] == ANN_TOO.encode()
    assert known_by_readers(world.bus)[ANN]["consents"][0]["granted"] is False


async def test_the_oldest_profile_names_the_customer_also_when_its_age_comes_late(world: World) -> None:
    await two_and_a_form(world)
    await world.send(purchase("0", EMAIL, at=day(-5)))
    read = known_by_readers(world.bus)
    assert (read[ANN]["merged_into"], read[ANN_TOO]["merged_into"]) == (ANN_TOO, None)
    assert read[ANN_TOO]["first_seen_at"] == "2026-02-24T12:00:00Z"
    assert read == last_written(world.bus)


async def test_a_split_brings_both_back_as_they_were_and_no_form_merges_them_again(world: World) -> None:
    await two_and_a_form(world)
    await world.send(split("5", CARD, EMAIL))
    await world.send(identify("6", (CARD, EMAIL), at=day(4)))
    read = known_by_readers(world.bus)
    assert (read[ANN]["members"], read[ANN]["references"], read[ANN]["consents"]) == ([ANN], [CARD], [])
    assert (read[ANN_TOO]["members"], read[ANN_TOO]["references"], read[ANN_TOO]["merged_into"]) == ([ANN_TOO], [EMAIL], None)
    assert read == last_written(world.bus)
    assert references.count_absorbed() == 0
    [refused] = world.database["outcomes"].find({"outcome": "merge_refused"})
    assert refused["reason"] == "split_before"
    await world.send(merge("7", CARD, EMAIL))
    assert known_by_readers(world.bus)[ANN_TOO]["merged_into"] == ANN


async def test_the_evidence_names_event_kinds_and_rule_but_no_reference(world: World) -> None:
    await two_and_a_form(world)
    [kept] = world.database["merges"].find()
    assert (kept["event"], kept["kinds"], kept["rule"], kept["by"]) == (
        "till/1\x1f4",
        ["loyalty_card", "email"],
        "named_together",
        "till/1",
    )
    assert "ann" not in str(kept)


async def test_two_users_of_one_address_stay_two_and_a_person_may_know_better(world: World) -> None:
    await (await world.start()).send(identify("1", ("user:1", EMAIL)), purchase("2", "user:2"))
    await world.send(identify("3", ("user:2", EMAIL)))
    one, two = new_profile_id("user:1"), new_profile_id("user:2")
    assert homes_of((one, two))[two].members == {two}
    [refused] = world.database["outcomes"].find({"outcome": "merge_refused"})
    assert refused["reason"] == "limit_user"
    await world.send(merge("4", "user:1", "user:2"))
    assert homes_of((one,))[one].members == {one, two}


async def test_an_unknown_profile_is_refused_and_none_begins(world: World) -> None:
    await (await world.start()).send(purchase("1"))
    await world.send(merge("2", CARD, "user:nobody"), split("3", CARD, EMAIL))
    assert sorted(each["reason"] for each in world.database["outcomes"].find()) == ["not_its_profiles", "unknown_profile"]
    assert customers.count() == 1


async def test_a_value_that_names_nobody_makes_no_profile(world: World) -> None:
    await (await world.start()).send(purchase("1", "loyalty_card:0000"), identify("2", (CARD, "phone:000")))
    assert (customers.count(), references.profiles_of(("loyalty_card:0000", "phone:000"))) == (1, {})
    assert list(world.database["outcomes"].find()) == []


async def test_workers_that_decide_at_once_decide_one_after_the_other(world: World) -> None:
    """Each of them alone is within the limit of five cards; all of them together are not."""
    cards = [f"loyalty_card:1{number}" for number in range(9)]
    await (await world.start()).send(*(purchase(f"p{card}", card) for card in cards))
    forms = [batch(CUSTOMER_UPDATES, identify(f"i{n}", (cards[n], cards[n + 1])), partition=n, topic_id="forms") for n in range(8)]
    workers = [world.worker() for _ in forms]
    await asyncio.gather(*(worker.listens[CUSTOMER_UPDATES](form) for worker, form in zip(workers, forms, strict=True)))
    homes = homes_of([new_profile_id(card) for card in cards])
    assert all(len(state.members) <= 5 for state in homes.values())
    assert sorted(each["_id"] for each in world.database["merges"].find()) == list(range(1, 9))
    read = known_by_readers(world.bus)
    assert read == last_written(world.bus)
    assert {profile: said["merged_into"] or profile for profile, said in read.items()} == {
        profile: state.customer_id for profile, state in homes.items()
    }


async def test_merging_and_splitting_over_http(world: World) -> None:
    async with client_of(world) as client:
        await world.send(purchase("1"), purchase("2", EMAIL, at=day(1)))
        why = {"by": "call centre", "evidence": "ticket 7"}
        asking = asyncio.create_task(client.post(f"/v1/customers/{ANN_TOO}/merge", json={"other_id": ANN, **why}))
        await asyncio.sleep(0.1)
        await world.bus.settle()
        [merged] = (await asking).json()["customers"]
        assert (merged["customer_id"], merged["members"]) == (ANN, sorted([ANN, ANN_TOO]))
        merged = (await client.get(f"/v1/customers/{ANN}")).json()
        assert (await client.get(f"/v1/customers/{ANN_TOO}")).json() == merged
        assert (await client.get("/v1/customers/lookup", params={"reference": EMAIL})).json() == merged
        assert [each["customer_id"] for each in (await client.get("/v1/customers")).json()["customers"]] == [ANN]
        assert len((await client.get(f"/v1/customers/{ANN}/events")).json()["events"]) == 3
        assert (await client.get("/v1/summary")).json()["customers"] == 1
        asking = asyncio.create_task(client.post(f"/v1/customers/{ANN}/split", json={"profiles": [ANN_TOO], **why}))
        await asyncio.sleep(0.1)
        await world.bus.settle()
        assert [each["customer_id"] for each in (await asking).json()["customers"]] == [ANN, ANN_TOO]
        found = (await client.get(f"/v1/customers/{ANN}/merges")).json()["merges"]
        assert [(each["action"], each["evidence"], each["by"]) for each in found] == [
            ("merged", "ticket 7", "call centre"), ("split", "ticket 7", "call centre"),
        ]  # fmt: skip
        asking = asyncio.create_task(client.post(f"/v1/customers/{ANN}/split", json={"profiles": [ANN_TOO], **why}))
        await asyncio.sleep(0.1)
        await world.bus.settle()
        refused = await asking
        assert (refused.status_code, refused.json()["rule"]) == (409, "not_its_profiles")
        assert (await client.post(f"/v1/customers/{'0' * 32}/merge", json={"other_id": ANN, **why})).status_code == 404


async def test_who_is_merged_further_while_he_is_looked_up_is_found_at_home(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await world.start()).send(purchase("0", "user:9", at=day(-1)), purchase("1"), purchase("2", EMAIL, at=day(1)))
    await world.send(merge("3", CARD, EMAIL))
    look, oldest = merging.published_as, new_profile_id("user:9")

    def look_and_merge(profiles: Any) -> Any:
        monkeypatch.setattr(merging, "published_as", look)
        found = look(profiles)
        merging.decide([Asked("meanwhile", "meanwhile", (ANN, oldest))], world.settings.rules, day(2))
        return found

    monkeypatch.setattr(merging, "published_as", look_and_merge)
    found = homes_of((ANN_TOO,))[ANN_TOO]
    assert (found.customer_id, found.merged_into, found.members) == (oldest, None, {ANN, ANN_TOO, oldest})


@pytest.mark.parametrize("at_once", [True, False])
async def test_of_two_who_log_in_on_one_device_the_first_was_its_visitor_however_they_are_read(world: World, at_once: bool) -> None:
    await world.start()
    device, first, second = "anonymous:d", "user:first", "user:second"
    await world.send(interaction("0", device), purchase("1", first))
    for id, user in (("2", first), ("3", second)):
        await world.bus.append(CUSTOMER_UPDATES, message(identify(id, (user, device), at=day(int(id))), key="one partition"))
        if not at_once:
            await world.bus.settle()
    await world.bus.settle()
    one, other, visitor = map(new_profile_id, (first, second, device))
    homes = homes_of((one, other, visitor))
    assert homes[one].members == homes[visitor].members == {one, visitor}
    assert homes[other].members == {other}
    [refused] = world.database["outcomes"].find({"outcome": "merge_refused"})
    assert (refused["reason"], refused["named"]) == ("weak_reference", "till/1\x1f3")


async def test_a_merged_customer_is_found_shown_and_exported_as_one(world: World) -> None:
    async with client_of(world) as client:
        car = {"asset_id": "car-1", "kind": "vehicle"}
        await world.send(identify("1", (CARD,), traits={"first_name": "Ann"}, lead_source="website"))
        await world.send(identify("2", (EMAIL,), at=day(1), traits={"last_name": "Smith"}, assets=[car]))
        assert (await client.get("/v1/customers", params={"search": "smi ann"})).json()["customers"] == []
        await world.send(merge("3", CARD, EMAIL))
        [found] = (await client.get("/v1/customers", params={"search": "smi ann"})).json()["customers"]
        assert (found["customer_id"], found["lead_source"], found["assets"][0]["asset_id"]) == (ANN, "website", "car-1")
        assert {name: said["event"] for name, said in found["said"]["traits"].items()} == {"first_name": "1", "last_name": "2"}
        _, exported = await rows_of(client, "/v1/export/customers")
        assert exported == [found]
        await world.send(split("4", CARD, EMAIL))
        assert (await client.get("/v1/customers", params={"search": "smi ann"})).json()["customers"] == []
        [apart] = (await client.get("/v1/customers", params={"search": "smith"})).json()["customers"]
        assert (apart["customer_id"], apart["lead_source"], len(apart["assets"])) == (ANN_TOO, None, 1)


async def test_what_is_said_of_the_strongest_is_answered_whatever_comes_first(world: World) -> None:
    world = World(IdentitySettings(merge_references=()), world.database)
    async with client_of(world) as client:
        await world.send(purchase("1"), purchase("2", EMAIL))
        asking = asyncio.create_task(
            client.post("/v1/customers/updates", json={"references": [EMAIL, CARD], "traits": {"city": "Bangkok"}})
        )
        await asyncio.sleep(0.1)
        await world.bus.settle()
        answer = await asking
        assert (answer.status_code, answer.json()["customer_id"]) == (200, ANN)


async def test_who_may_send_events_may_not_merge(world: World) -> None:
    async with client_of(world) as client:
        headers = {"content-type": "application/cloudevents+json"}
        answer = await client.post("/v1/events", content=json.dumps(merge("1", CARD, EMAIL)), headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (422, "unknown_type")
        assert world.bus.events(CUSTOMER_UPDATES) == []


CALLED = (CARD, EMAIL, "loyalty_card:43", "user:7", "phone:+66812345678")
PAIRS = st.permutations(CALLED).map(lambda called: called[:2])
FORMS = st.builds(lambda pair, at: ("identify", tuple(pair), at), PAIRS, st.integers(-3, 12))
ASKED = st.builds(lambda kind, pair: (kind, tuple(pair), 0), st.sampled_from(["merge", "split"]), PAIRS)
ERASED = st.builds(lambda called: ("erase", (called,), 0), st.sampled_from(CALLED))
STORY = st.lists(FORMS | ASKED | ERASED, min_size=1, max_size=6)
WRITTEN = (
    *((name, "insert_many") for name in ("references", "profiles", "slices", "timeline", "merges", "outcomes", "event_graves")),
    *((name, "delete_many") for name in ("references", "timeline", "consents", "names", "profiles", "customers")),
    *(("graves", "bulk_write"), ("erasure_count", "update_one"), ("privacy_requests", "update_one"), ("customers", "bulk_write")),
    *((topic.name, "publish") for topic in (CUSTOMERS, PRIVACY, DEAD_LETTERS)),
)
MISHAPS = st.dictionaries(
    st.integers(0, 10), st.tuples(st.sampled_from(WRITTEN), st.booleans(), st.lists(st.integers(0, 10), max_size=2)), max_size=5
)
OTHERS = ("segmentation", "campaigns", "notifications")
MASTER: Any = "a master key of the tests"


def told(story: list[Any]) -> list[Any]:
    first = [purchase(f"first {number}", called, at=day(number)) for number, called in enumerate(CALLED)]
    makers = {"merge": merge, "split": split}
    rest: list[Any] = []
    newest = len(CALLED) - 1
    for number, (kind, called, at) in enumerate(story):
        if kind == "erase":
            rest.append((called[0], day(newest)))
        elif kind == "identify":
            newest = max(newest, at)
            consents = [{"purpose": "marketing", "channel": "email", "granted": at % 2 == 0}]
            rest.append(identify(str(number), called, at=day(at), traits={"number": number, "name": f"Ann {number}"}, consents=consents))
        else:
            rest.append(makers[kind](str(number), *called))
    return [*first, *rest]


async def live_through(story: list[Any], mishaps: dict[int, Any], database: Any) -> tuple[Any, ...]:
    """Handle event after event, with crashes at these writes and with earlier events delivered again; what is left at the end."""
    database.client.drop_database("identity")
    world = await World(IdentitySettings(master_key=MASTER, erasure_settle_seconds=0), database).start()
    steps = [each if isinstance(each, tuple) else batch(topic_of(each), each, first=number) for number, each in enumerate(told(story))]
    for number, step in enumerate(steps):
        (where, how), done, again = mishaps.get(number, (("nothing", "insert_many"), False, []))
        if how == "publish":
            world.bus.fail_publishes(1, next(topic for topic in TOPICS if topic.name == where))
        with failing(world, where, how, done), contextlib.suppress(Unavailable):
            await live(world, number, step)
        for earlier in (number, *(each for each in again if each < number)):
            if not isinstance(steps[earlier], tuple):
                with contextlib.suppress(Unavailable):
                    await live(world, earlier, steps[earlier])
        await live(world, number, step)
    read, written = known_by_readers(world.bus), last_written(world.bus)
    assert read == written
    for profile, state in homes_of(read.keys()).items():
        assert state.customer_id == (read[profile]["merged_into"] or profile)
    assert customers.load(read).keys() == read.keys()
    return {profile: {**said, "version": 0} for profile, said in read.items()}, *left_in(database)


def failing(world: World, where: str, how: str, done: bool) -> Any:
    return contextlib.nullcontext() if how == "publish" else world.failing_write(where, AutoReconnect("gone"), done, how)


def left_in(database: Any) -> Iterator[Any]:
    """What is kept about whom. Merges: who was decided on, not in whose words."""
    yield {each["_id"]: each["profile"] for each in database["references"].find()}
    yield {each["_id"]: each["profile"] for each in database["timeline"].find()}
    yield {each["_id"]: each["profile"] for each in database["consents"].find()}
    yield {each["_id"] for each in database["profiles"].find()}
    yield {each["_id"]: sorted(each["keys"]) for each in database["names"].find()}
    yield {each["_id"] for each in database["graves"].find()}
    gone = merges.erased_among({member for each in database["merges"].find() for member in each["members"]})
    assert not [each for each in merges.about(gone) if each["by"] or each["evidence"]]
    yield gone


async def live(world: World, number: int, step: Any) -> None:
    if isinstance(step, tuple):
        await erase(world, number, *step)
        return
    listens = world.worker().listens
    await next(handler for topic, handler in listens.items() if topic.name == step.topic)(step)


async def erase(world: World, number: int, called: str, at: datetime) -> None:
    """Somebody asks, by what they are called, when a replay's clock shows the newest event; worked on until it is done, or dies."""
    request_id = f"{number:032x}"
    if privacy.find(request_id) is None:
        profile = references.profiles_of((called,)).get(called)
        if profile is None:
            return
        asked = Request(request_id, Kind.ERASURE, State.RECEIVED, 0, profile, (profile,), at, at, profile=profile)
        privacy.create(asked, None)
    digest = partial(reference_digest, MASTER.encode())
    letters = {name: Letters(name, vault_of("identity"), partial(world.bus.read, DEAD_LETTERS)) for name in ("identity", *OTHERS)}
    clerk = Clerk(world.bus.publish, WallClock(), Rules(timedelta(0), timedelta(days=1)), digest, letters["identity"])
    for _ in range(12):
        world.database["privacy_requests"].update_many({}, {"$set": {"leased_until": None}})
        await clerk.work()
        asked_for = [record for record in world.bus.records(PRIVACY) if b"PrivacyRequested" in (record.value or b"")]
        for service in OTHERS:
            await answer_privacy(service, Nothing(), world.bus.publish, letters[service])(Batch(PRIVACY.name, "id", 0, asked_for))
        await on_privacy(Batch(PRIVACY.name, "id", 0, world.bus.records(PRIVACY)))
        if (privacy.find(request_id) or {}).get("state") == State.DONE:
            return
    raise Unavailable("the clerk died")


class Nothing:
    """Implements shared.privacy.Holder for a service that has nothing of anybody."""

    async def show(self, profile: str) -> list[dict[str, Any]]:
        return []

    async def object(self, profile: str, at: datetime) -> dict[str, int]:
        return {}

    async def erase(self, profile: str, references: Sequence[str]) -> dict[str, int]:
        return {}


async def test_who_is_erased_while_others_merge_takes_exactly_those_who_were_merged_before(empty: Any) -> None:
    world = await World(IdentitySettings(master_key=MASTER, erasure_settle_seconds=0), empty).start()
    cards = [f"loyalty_card:1{number}" for number in range(5)]
    await world.send(*(purchase(f"p{card}", card) for card in cards))
    forms = [batch(CUSTOMER_UPDATES, identify(f"i{n}", (cards[n], cards[n + 1])), partition=n, topic_id="forms") for n in range(4)]
    workers = [world.worker().listens[CUSTOMER_UPDATES] for _ in forms]
    asked = erase(world, 9, cards[2], day(1))
    await asyncio.gather(*(work(form) for work, form in zip(workers, forms, strict=True)), asked)
    made = sorted(world.database["merges"].find(), key=lambda each: each["_id"])
    [erased] = [each for each in made if each["action"] == "erased"]
    before = [each["members"] for each in made if each["_id"] < erased["_id"] and new_profile_id(cards[2]) in each["members"]]
    assert set(erased["members"]) == {new_profile_id(cards[2])}.union(*before)
    assert not [each for each in made if each["_id"] > erased["_id"] and set(each["members"]) & set(erased["members"])]


async def test_whom_a_dying_worker_parted_from_the_erased_is_a_customer_all_the_same(empty: Any) -> None:
    world = await World(IdentitySettings(master_key=MASTER, erasure_settle_seconds=0), empty).start()
    await world.send(purchase("1", at=day(0)), identify("2", (EMAIL,), at=day(1), traits={"name": "Ann"}), merge("3", CARD, EMAIL))
    parted = batch(CUSTOMER_UPDATES, split("4", CARD, EMAIL), topic_id="lost")
    world.bus.fail_publishes(1, CUSTOMERS)
    with pytest.raises(Unavailable):
        await live(world, 4, parted)
    await erase(world, 5, CARD, day(5))
    await live(world, 4, parted)
    read = known_by_readers(world.bus)
    assert read == last_written(world.bus)
    assert (list(read), read[ANN_TOO]["members"], read[ANN_TOO]["merged_into"]) == ([ANN_TOO], [ANN_TOO], None)


APART = [("merge", (CARD, EMAIL), 0), ("split", (CARD, EMAIL), 0), ("identify", (CARD, EMAIL), 3)]
LATER = ("identify", ("loyalty_card:43", "user:7"), 12)
AGAIN = (("merges", "insert_many"), False, [5, 6, 7])
"""What happened to the two, once more."""


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@example([*APART, ("erase", (CARD,), 0), LATER], {9: AGAIN})
@example([*APART, ("erase", (EMAIL,), 0), LATER], {9: AGAIN})
@example(
    [APART[0], ("erase", (EMAIL,), 0), APART[2]], {6: (("customers-v1", "publish"), False, [5]), 7: (("names", "delete_many"), True, [5])}
)
@example([APART[0], ("erase", (EMAIL,), 0), ("identify", (CARD, "user:7"), 12)], {6: (("customers", "delete_many"), False, [0, 1, 5])})
@given(STORY, MISHAPS)
def test_crashes_and_redeliveries_end_in_the_state_of_a_clean_run(database: str, story: list[Any], mishaps: dict[int, Any]) -> None:
    client = connect("identity", database)
    try:
        clean = asyncio.run(live_through(story, {}, client["identity"]))
        assert asyncio.run(live_through(story, mishaps, client["identity"])) == clean
    finally:
        disconnect("identity")
