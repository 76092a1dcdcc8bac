"""What somebody may ask about the data on them when they are several profiles, or turn out to be while they wait."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import httpx
import pytest

from services.campaigns.store import customers as campaign_customers
from services.campaigns.store import ledger
from services.identity.domain.resolution import new_profile_id
from services.notifications.domain.messages import Message
from services.notifications.settings import NotificationsSettings
from services.notifications.situation import look_up
from services.notifications.store import contacts
from shared.contracts.topics import CUSTOMER_UPDATES, CUSTOMERS
from tests.identity.world import CARD, NOON, consent, day, identify, interaction, merge, purchase, split
from tests.privacy.test_requests import a_message
from tests.privacy.world import Everything

pytestmark = pytest.mark.anyio
MAIL = "email:canary.ann@example.com"
ANN, ANN_TOO = new_profile_id(CARD), new_profile_id(MAIL)
ALLOWED = [{"purpose": "marketing", "channel": "email", "granted": True}]
WHY = "the canary sings at both doors"
PLAIN = ("canary.ann@example.com", "loyalty_card:42", "Annabel Canary", "Canary Lane", WHY)


def because(sent: dict[str, Any]) -> dict[str, Any]:
    """A request to merge or split with a reason that names somebody."""
    return {**sent, "data": {**sent["data"], "evidence": WHY}}


async def two_profiles(everything: Everything) -> None:
    """Somebody by a card, and by an address; and somebody else."""
    await everything.send(
        identify("1", (CARD,), traits={"name": "Annabel Canary"}),
        identify("2", (MAIL,), at=day(1), traits={"name": "A. Canary", "street": "Canary Lane 7"}, consents=ALLOWED),
        identify("3", ("loyalty_card:77", "email:bob@example.com"), traits={"name": "Bob"}),
        purchase("4"),
        purchase("5", MAIL, at=day(1)),
        interaction("6", MAIL, at=day(1), words="from Canary Lane"),
    )
    await everything.live(2)


async def one_customer(everything: Everything) -> None:
    """The same as one customer, because a person said so."""
    await two_profiles(everything)
    await everything.send(because(merge("m", CARD, MAIL)))


async def begin(everything: Everything, client: httpx.AsyncClient, kind: str, **asked: Any) -> str:
    """Make a request and let its work begin; where it is found. It goes on when the timers run again."""
    made = await client.post("/v1/privacy/requests", json={"kind": kind, **asked})
    assert made.status_code == 202, made.text
    await everything.live(1)
    return str(made.headers["location"])


async def finish(everything: Everything, client: httpx.AsyncClient, location: str) -> dict[str, Any]:
    for _ in range(20):
        await everything.live(1)
        found: dict[str, Any] = (await client.get(location)).json()
        if found["state"] == "done":
            return found
    raise AssertionError(f"it is not done: {found}")


async def archive_of(client: httpx.AsyncClient, request_id: str) -> zipfile.ZipFile:
    answer = await client.get(f"/v1/privacy/requests/{request_id}/archive")
    assert answer.status_code == 200, answer.text
    return zipfile.ZipFile(io.BytesIO(answer.content))


def campaign_balance(customer_id: str) -> int:
    """As the till asks for it."""
    [members] = campaign_customers.members([customer_id]).values()
    return sum(ledger.balances(members, 2).values())


def last_of(everything: Everything) -> dict[str, Any]:
    """What compaction leaves of customers."""
    last = {(record.key or b"").decode(): record.value for record in everything.bus.records(CUSTOMERS)}
    return {key: value and json.loads(value)["data"] for key, value in last.items()}


async def test_an_erasure_reaches_all_profiles_and_what_was_written_about_their_merge(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        assert {"identity.merges", "notifications.contacts"} <= everything.where(*PLAIN[:1], WHY)
        done = await everything.ask(client, "erasure", reference=MAIL)
        await everything.live()
        assert done["members"] == done["proof"]["members"] == sorted([ANN, ANN_TOO])
        assert done["proof"]["erased"]["identity"]["merge_evidence"] == 1
        assert done["proof"]["kept"]["campaigns"]["ledger_entries"] == 2
        assert everything.where(*PLAIN) == set()
        assert [last_of(everything)[each] for each in (ANN, ANN_TOO)] == [None, None]
        for service, name in (("campaigns", "customers"), ("notifications", "contacts"), ("identity", "profiles"), ("identity", "names")):
            assert not list(everything.databases[service][name].find({"_id": {"$in": [ANN, ANN_TOO]}})), (service, name)
        assert (await client.get("/v1/customers/lookup", params={"reference": "loyalty_card:77"})).json()["traits"] == {"name": "Bob"}


async def test_nothing_that_comes_late_merges_with_the_erased_or_tells_of_them(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        bob = (await client.get("/v1/customers/lookup", params={"reference": "loyalty_card:77"})).json()
        await everything.ask(client, "erasure", reference=MAIL)
        everything.bus.redeliver(CUSTOMER_UPDATES, group="identity")
        # A form of before names both; people ask what has no answer any more.
        await everything.send(identify("7", (CARD, "loyalty_card:77"), at=day(-1), traits={"city": "Chiang Mai"}))
        await everything.send(because(merge("8", "loyalty_card:77", CARD)), because(split("9", CARD, MAIL)))
        now = (await client.get("/v1/customers/lookup", params={"reference": "loyalty_card:77"})).json()
        assert (now["members"], now["references"], now["traits"]) == (
            bob["members"],
            bob["references"],
            {**bob["traits"], "city": "Chiang Mai"},
        )
        assert (await client.get("/v1/customers/lookup", params={"reference": CARD})).status_code == 404
        # The form is Bob's now, as far as it names him.
        assert everything.where(*PLAIN[:1], *PLAIN[2:]) == set()
        [refused] = everything.databases["identity"]["outcomes"].find({"outcome": "merge_refused"})
        assert refused["reason"] == "erased"
        why = {"by": "call centre", "evidence": WHY}
        for path, asked in ((f"{now['customer_id']}/merge", {"other_id": ANN}), (f"{ANN}/split", {"profiles": [ANN_TOO]})):
            answer = await client.post(f"/v1/customers/{path}", json={**asked, **why})
            assert (answer.status_code, answer.json()["rule"]) == (409, "erased")
            assert "erased" in answer.json()["detail"]


async def test_a_merge_before_the_work_begins_takes_part_and_one_after_is_refused(everything: Everything) -> None:
    async with everything.running() as client:
        await two_profiles(everything)
        asking = await client.post("/v1/privacy/requests", json={"kind": "erasure", "reference": CARD})
        assert asking.json()["members"] == [ANN]
        await everything.send(merge("m", CARD, MAIL))
        await everything.live(1)
        await everything.send(merge("n", CARD, "loyalty_card:77"), split("s", CARD, MAIL))
        done = await finish(everything, client, asking.headers["location"])
        assert done["proof"]["members"] == sorted([ANN, ANN_TOO])
        bob = (await client.get("/v1/customers/lookup", params={"reference": "loyalty_card:77"})).json()
        assert len(bob["members"]) == 1


async def test_after_a_split_only_who_asked_is_erased_and_the_other_is_a_customer_by_itself(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        asking = await client.post("/v1/privacy/requests", json={"kind": "erasure", "reference": CARD})
        assert asking.json()["members"] == sorted([ANN, ANN_TOO])
        await everything.send(because(split("s", CARD, MAIL)))
        done = await finish(everything, client, asking.headers["location"])
        assert done["proof"]["members"] == [ANN]
        await everything.live()
        left = last_of(everything)
        assert left[ANN] is None
        assert (left[ANN_TOO]["members"], left[ANN_TOO]["merged_into"], left[ANN_TOO]["references"]) == ([ANN_TOO], None, [MAIL])
        assert left[ANN_TOO]["traits"] == {"name": "A. Canary", "street": "Canary Lane 7"}
        assert everything.where("loyalty_card:42", "Annabel", WHY) == set()
        known = contacts.read([ANN, ANN_TOO])
        assert (list(known), known[ANN_TOO].members) == ([ANN_TOO], ())
        [customer] = everything.databases["campaigns"]["customers"].find({"_id": {"$in": [ANN, ANN_TOO]}})
        assert (customer["_id"], customer["members"]) == (ANN_TOO, [ANN_TOO])
        balances = ledger.balances([ANN, ANN_TOO], 2)
        assert 0 < campaign_balance(ANN_TOO) == balances[ANN_TOO] < sum(balances.values())
        assert (await client.get(f"/v1/customers/{ANN_TOO}/merges")).json()["merges"][0]["evidence"] == ""


async def test_a_merge_that_dies_between_decision_and_publication_cannot_outrun_an_erasure(everything: Everything) -> None:
    async with everything.running() as client:
        await two_profiles(everything)
        everything.bus.fail_publishes(1, CUSTOMERS)
        await everything.send(merge("m", CARD, MAIL))
        done = await everything.ask(client, "erasure", reference=MAIL)
        everything.bus.redeliver(CUSTOMER_UPDATES, group="identity")
        await everything.live()
        assert len(done["proof"]["members"]) == 2
        assert [last_of(everything)[each] for each in (ANN, ANN_TOO)] == [None, None]


async def test_an_archive_holds_all_profiles_and_why_they_are_one(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        done = await everything.ask(client, "access", customer_id=ANN_TOO)
        archive = await archive_of(client, done["request_id"])
        profile = json.loads(archive.read("profile.json"))
        assert (profile["members"], profile["references"]) == (sorted([ANN, ANN_TOO]), [CARD, MAIL])
        assert sorted(each["id"] for each in json.loads(archive.read("events.json"))) == ["1", "2", "4", "5", "6", "m"]
        [told] = json.loads(archive.read("merges.json"))
        assert (told["action"], told["by"], told["evidence"]) == ("merged", "call centre", WHY)
        assert len(json.loads(archive.read("campaigns_points.json"))) == 2
        assert done["proof"]["found"]["identity"] == {"events": 6, "consents": 1, "merges": 1}


async def test_an_archive_begins_again_where_its_customer_is_split_or_merged_meanwhile(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        location = await begin(everything, client, "access", reference=CARD)
        await everything.send(split("s", CARD, MAIL), merge("n", CARD, "loyalty_card:77"))
        done = await finish(everything, client, location)
        archive = await archive_of(client, done["request_id"])
        texts = b"".join(archive.read(name) for name in archive.namelist() if not name.startswith("merges"))
        assert (b"canary.ann" in texts, b"Canary Lane" in texts, b"Bob" in texts) == (False, False, True)
        assert len(json.loads(archive.read("campaigns_points.json"))) == 1
        assert done["proof"]["found"]["campaigns"]["points"] == 1


async def test_an_archive_of_what_turned_out_to_be_two_people_is_given_to_neither(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        done = await everything.ask(client, "access", reference=CARD)
        await everything.send(split("s", CARD, MAIL))
        answer = await client.get(f"/v1/privacy/requests/{done['request_id']}/archive")
        assert (answer.status_code, answer.json()["title"]) == (409, "Split since")


async def test_an_objection_reaches_all_profiles_and_outlives_a_split(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        done = await everything.ask(client, "objection", reference=CARD)
        assert len(done["proof"]["events"]) == 2
        await everything.send(split("s", CARD, MAIL))
        for profile in (ANN, ANN_TOO):
            said = (await client.get(f"/v1/customers/{profile}")).json()["consents"]
            assert {each["granted"] for each in said if each["purpose"] == "marketing"} == {False}
        subjects = {each["subject"] for each in everything.databases["notifications"]["suppressions"].find({"active": True})}
        assert subjects == {f"customer:{ANN}", f"customer:{ANN_TOO}"}


async def test_a_refusal_by_one_profile_stops_what_is_on_its_way_to_the_other(everything: Everything) -> None:
    async with everything.running():
        await one_customer(everything)
        waiting: list[Message] = [a_message(ANN, MAIL)]
        rules = NotificationsSettings().rules()
        assert look_up(waiting, NOON).judge(waiting[0], rules, NOON, NOON).contact is not None
        await everything.send(consent("9", False, MAIL, at=day(2)))
        verdict = look_up(waiting, NOON).judge(waiting[0], rules, NOON, NOON).verdict
        assert getattr(verdict, "reason", None) == "no_consent"


async def test_what_is_corrected_is_so_on_all_profiles_that_had_it(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        changes = {"traits": {"name": "Ann C.", "street": None}, "references": ["line:ann-c"]}
        done = await everything.ask(client, "rectification", reference=MAIL, changes=changes)
        merged = (await client.get(f"/v1/customers/{ANN}")).json()
        assert (merged["traits"], "line:ann-c" in merged["references"]) == ({"name": "Ann C."}, True)
        kept = everything.databases["identity"]["privacy_requests"].find_one({"_id": done["request_id"]})
        assert "Ann C." not in str(kept)
        await everything.send(split("s", CARD, MAIL))
        assert [(await client.get(f"/v1/customers/{each}")).json()["traits"] for each in (ANN, ANN_TOO)] == [{"name": "Ann C."}] * 2


async def test_a_plate_and_a_reading_that_were_wrong_are_corrected(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        van = {"asset_id": "van", "kind": "vehicle", "label": "B 1234", "odometer_km": 99_999}
        await everything.send(identify("v", (MAIL,), at=day(1), assets=[van]))
        right = {"asset_id": "van", "label": "B 1243", "odometer_km": 9_999, "read_on": day(1).date().isoformat()}
        await everything.ask(client, "rectification", reference=CARD, changes={"assets": [right]})
        [owned] = (await client.get(f"/v1/customers/{ANN}")).json()["assets"]
        assert (owned["label"], owned["odometer_km"], owned["readings"]) == (
            "B 1243", 9_999, [{"on": "2026-03-02", "odometer_km": 9_999}]
        )  # fmt: skip
        await everything.send(split("s", CARD, MAIL))
        assert [len((await client.get(f"/v1/customers/{each}")).json()["assets"]) for each in (ANN, ANN_TOO)] == [0, 1]


@pytest.mark.parametrize("wrong", [{"since": "2026-02-30"}, {"odometer_km": -1}, {"odometer_km": 5, "read_on": "2031-01-01"}])
async def test_a_correction_that_no_event_could_say_is_refused_at_once(everything: Everything, wrong: dict[str, Any]) -> None:
    async with everything.running() as client:
        await two_profiles(everything)
        asked = {"kind": "rectification", "reference": CARD, "changes": {"assets": [{"asset_id": "van", **wrong}]}}
        answer = await client.post("/v1/privacy/requests", json=asked)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_a_request_that_waits_ends_when_its_customer_is_erased_and_no_other_begins(everything: Everything) -> None:
    async with everything.running() as client:
        await one_customer(everything)
        waiting = await begin(everything, client, "objection", reference=CARD)
        erasing = (await client.post("/v1/privacy/requests", json={"kind": "erasure", "reference": MAIL})).headers["location"]
        await everything.live(1)
        refused = await client.post(
            "/v1/privacy/requests", json={"kind": "rectification", "customer_id": ANN, "changes": {"language": "th"}}
        )
        assert refused.status_code in (404, 409)
        assert (await finish(everything, client, waiting))["state"] == "done"
        assert (await finish(everything, client, erasing))["state"] == "done"
        await everything.live(2)
        assert everything.where(*PLAIN) == set()
        assert (await client.get("/v1/customers/lookup", params={"reference": CARD})).status_code == 404
