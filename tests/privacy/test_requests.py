"""What somebody may ask about the data on them, through all services."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Any

import pytest

from services.notifications.domain.contacts import Suppression
from services.notifications.domain.interactions import Kind, response_to
from services.notifications.domain.messages import Message
from services.notifications.domain.reasons import Reason
from services.notifications.store import messages, responses, suppressions
from services.notifications.store.messages import Postponed
from services.notifications.store.words import FIELDS
from shared.contracts.topics import CUSTOMERS, PURCHASES, SCORES, SEGMENTATION_STATE
from tests.identity.world import CARD, day, identify, interaction, purchase
from tests.privacy.world import Everything

pytestmark = pytest.mark.anyio
MAIL, PHONE, NAME, WORDS = "email:canary.ann@example.com", "phone:+66812345678", "Annabel Canary", "the canary did not sing"
PLAIN = ("canary.ann@example.com", "+66812345678", NAME, WORDS, "loyalty_card:42", "canary bus")
ASSET = {"asset_id": "canary-plate-1", "kind": "vehicle", "label": "The yellow canary bus"}
ALLOWED = [{"purpose": "marketing", "channel": "email", "granted": True, "evidence": "form of Annabel Canary"}]


async def a_customer(everything: Everything) -> None:
    """Somebody with a life in all services, somebody else, and what nobody could read."""
    await everything.send(
        identify("1", (CARD, MAIL, PHONE), traits={"name": NAME, "city": "Bangkok"}, consents=ALLOWED, assets=[ASSET]),
        identify("4", ("loyalty_card:77", "email:bob@example.com"), traits={"name": "Bob"}),
    )
    await everything.send(
        purchase("2"),
        interaction("3", MAIL, words=WORDS),
        purchase("5", "loyalty_card:77"),
        purchase("2", amount=1),  # The same name with another body: quarantined.
        purchase("6", MAIL, amount=-5),  # Parked.
    )
    await everything.live(8)


async def test_an_archive_holds_what_every_service_knows(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        done = await everything.ask(client, "access", reference=MAIL)
        answer = await client.get(f"/v1/privacy/requests/{done['request_id']}/archive")
        assert answer.headers["content-type"] == "application/zip"
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        profile = json.loads(archive.read("profile.json"))
        assert (profile["traits"]["name"], sorted(profile["references"])) == (NAME, sorted((CARD, MAIL, PHONE)))
        assert {"what": "asset canary-plate-1 label", "value": "The yellow canary bus"}.items() <= profile["said"][-1].items()
        assert [each["id"] for each in json.loads(archive.read("events.json"))] == ["1", "2", "3"]
        assert {"campaigns_points.csv", "campaigns_offers.json", "notifications_messages.json"} <= set(archive.namelist())
        rows = list(csv.DictReader(io.StringIO(archive.read("events.csv").decode("utf-8-sig"))))
        assert rows[2]["data.properties.words"] == WORDS
        assert json.loads(archive.read("consents.json"))[0]["evidence"] == "form of Annabel Canary"
        assert "bob" not in str([archive.read(name).lower() for name in archive.namelist()])
        assert done["proof"]["found"]["identity"] == {"events": 3, "consents": 1}
        assert done["proof"]["archive"]["bytes"] == len(answer.content)
        assert everything.databases["identity"]["privacy_answers"].count_documents({}) == 0


async def test_who_objects_has_refused_all_marketing_and_is_suppressed(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        done = await everything.ask(client, "objection", reference=MAIL)
        said = (await client.get(f"/v1/customers/{done['customer_id']}")).json()["consents"]
        assert {(each["channel"], each["granted"]) for each in said} == {
            (channel, False) for channel in ("email", "line", "sms", "push", "call", "till")
        }
        [suppression] = everything.databases["notifications"]["suppressions"].find({})
        assert (suppression["subject"], suppression["purpose"], suppression["active"]) == (
            f"customer:{done['customer_id']}",
            "marketing",
            True,
        )
        newest = (await client.get(f"/v1/customers/{done['customer_id']}/consents")).json()["statements"]
        assert {(each["method"], each["action"]) for each in newest[:6]} == {("objection", "withdrawn"), ("objection", "refused")}


async def test_what_is_wrong_is_corrected_by_saying_what_is_right(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        changes = {"traits": {"name": "Ann C.", "city": None}, "references": ["line:ann-c"]}
        done = await everything.ask(client, "rectification", reference=MAIL, changes=changes)
        customer = (await client.get(f"/v1/customers/{done['customer_id']}")).json()
        assert customer["traits"] == {"name": "Ann C."}
        assert "line:ann-c" in customer["references"]
        assert "Ann C." not in str(everything.databases["identity"]["privacy_requests"].find_one({"_id": done["request_id"]}))


async def test_after_an_erasure_nothing_yields_the_plain_value(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        access = await everything.ask(client, "access", reference=MAIL)
        assert everything.databases["identity"]["names"].find_one({"_id": access["customer_id"]})
        before = everything.where(*PLAIN)
        assert {
            "identity.references", "identity.customers", "identity.consents", "notifications.contacts", "customers-v1",
        } <= before  # fmt: skip
        customer = access["customer_id"]
        assert everything.databases["segmentation"]["scores"].find_one({"_id": customer})
        done = await everything.ask(client, "erasure", reference=MAIL)
        await everything.live()
        assert everything.where(*PLAIN) == set()
        for name in ("customers", "names", "profiles", "references", "timeline", "consents", "privacy_archives"):
            assert not list(everything.databases["identity"][name].find({"$or": [{"_id": customer}, {"profile": customer}]})), name
        for topic in (CUSTOMERS, SCORES, SEGMENTATION_STATE):
            last = {record.key: record.value for record in everything.bus.records(topic)}
            assert last[customer.encode()] is None, topic.name
        for service, name in (
            ("segmentation", "scores"),
            ("campaigns", "customers"),
            ("campaigns", "scores"),
            ("notifications", "contacts"),
        ):
            assert everything.databases[service][name].find_one({"_id": customer}) is None, (service, name)
        assert (await client.get("/v1/customers/lookup", params={"reference": MAIL})).status_code == 404
        proof = done["proof"]
        assert proof["erased"]["identity"]["events"] == 3
        assert proof["kept"]["campaigns"]["ledger_entries"] == 1
        assert proof["erased"]["segmentation"]["rows"] == 1
        today = datetime.now(UTC).date()
        assert date.fromisoformat(proof["topics_roll_off"]["purchases-v1"]) in (today + timedelta(days=8), today + timedelta(days=9))
        assert proof["nothing_left_from"] == max(proof["topics_roll_off"].values())
        # Somebody else is as before.
        bob = (await client.get("/v1/customers/lookup", params={"reference": "loyalty_card:77"})).json()
        assert bob["traits"] == {"name": "Bob"}
        assert everything.databases["segmentation"]["scores"].find_one({"_id": bob["customer_id"]})


async def test_what_comes_late_is_not_taken_in_and_who_comes_back_begins_anew(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        was = (await everything.ask(client, "erasure", reference=MAIL))["customer_id"]
        everything.bus.redeliver(PURCHASES, group="identity")
        await everything.send(purchase("late", MAIL), purchase("later", CARD))
        assert (await client.get("/v1/customers/lookup", params={"reference": CARD})).status_code == 404
        assert (await client.get("/v1/outcomes")).json()["erased"] == 2
        assert everything.where(*PLAIN) <= {"dead-letters-v1"}
        await everything.send(purchase("new", CARD, at=day(1)))
        now = (await client.get("/v1/customers/lookup", params={"reference": CARD})).json()
        assert (now["customer_id"] != was, now["references"], now["version"]) == (True, [CARD], 1)
        await everything.send(purchase("2"))
        history = (await client.get(f"/v1/customers/{now['customer_id']}/events")).json()["events"]
        assert [each["id"] for each in history] == ["new"]


async def test_an_erasure_that_dies_anywhere_is_finished_by_the_next(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        for topic in (CUSTOMERS, SEGMENTATION_STATE, SCORES):
            everything.bus.fail_publishes(1, topic)
        done = await _with_lapsed_leases(everything, client)
        assert everything.where(*PLAIN) == set()
        assert done["proof"]["erased"]["identity"]["events"] == 3


async def _with_lapsed_leases(everything: Everything, client: Any) -> dict[str, Any]:
    made = await client.post("/v1/privacy/requests", json={"kind": "erasure", "reference": MAIL})
    for _ in range(40):
        await everything.live(1)
        everything.databases["identity"]["privacy_requests"].update_many({}, {"$set": {"leased_until": None}})
        found: dict[str, Any] = (await client.get(made.headers["location"])).json()
        if found["state"] == "done":
            return found
    raise AssertionError(f"it is not done: {found}")


async def test_what_readers_did_with_their_mails_is_shown_and_erased(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        customer = (await client.get("/v1/customers/lookup", params={"reference": MAIL})).json()["customer_id"]
        bob = (await client.get("/v1/customers/lookup", params={"reference": "loyalty_card:77"})).json()["customer_id"]
        for who, mail in ((customer, MAIL), (bob, "email:bob@example.com")):
            sent = a_message(who, mail)
            messages.record([sent], {who: Postponed(sent, day(8), Reason.QUIET_HOURS, day(8))})
            responses.record(response_to(sent, Kind.CLICKED, mail, day(0), "https://shop.example/"))
        done = await everything.ask(client, "access", reference=MAIL)
        packed = (await client.get(f"/v1/privacy/requests/{done['request_id']}/archive")).content
        [shown] = json.loads(zipfile.ZipFile(io.BytesIO(packed)).read("notifications_responses.json"))
        assert (shown["response"], shown["message_id"], shown["properties"]["link"]) == (Kind.CLICKED, customer, "https://shop.example/")
        erased = (await everything.ask(client, "erasure", reference=MAIL))["proof"]["erased"]["notifications"]
        assert erased["responses"] == 1
        assert [each["message_id"] for each in everything.databases["notifications"]["responses"].find({})] == [bob]
        [kept] = everything.databases["notifications"]["messages"].find({"_id": customer})
        assert kept.keys().isdisjoint(FIELDS)


def a_message(customer: str, reference: str) -> Message:
    """A mail to a customer, its id the customer's."""
    at = day(0)
    return Message(
        message_id=customer, offer_id="offer", program="win_back", customer_id=customer, channel="email", partition=0, template="win_back",
        purpose="marketing", content={"said": "to the canary"}, decided_at=at, expires_at=day(9), recorded_at=at, appended_ms=0,
        put_off_to=day(8), reference=reference,
    )  # fmt: skip


async def test_an_address_that_is_not_to_be_written_to_stays_so_as_a_keyed_hash(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        subject = "email:canary.ann@example.com"
        suppressions.add(Suppression(subject), "asked for it", day(0))
        await everything.ask(client, "erasure", reference=MAIL)
        assert "notifications.suppressions" not in everything.where(*PLAIN)
        assert suppressions.active_for([subject], b"a master key of the tests")[subject]
        assert not suppressions.active_for(["email:other@example.com"], b"a master key of the tests")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"kind": "access"}, 422),
        ({"kind": "access", "reference": CARD, "customer_id": "0" * 32}, 422),
        ({"kind": "access", "reference": "email:nobody@example.com"}, 404),
        ({"kind": "rectification", "reference": CARD}, 422),
        ({"kind": "rectification", "reference": CARD, "changes": {}}, 422),
        ({"kind": "erasure", "reference": CARD, "changes": {"traits": {"a": 1}}}, 422),
        ({"kind": "rectification", "reference": CARD, "changes": {"traits": {"a": 2**63}}}, 422),
        ({"kind": "forgetting", "reference": CARD}, 422),
    ],
)
async def test_a_request_that_cannot_be_met_is_refused(everything: Everything, asked: dict[str, Any], status: int) -> None:
    async with everything.running() as client:
        assert (await client.post("/v1/privacy/requests", json=asked)).status_code == status


async def test_requests_are_listed_newest_first_and_chosen(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        made = [
            (await client.post("/v1/privacy/requests", json={"kind": kind, "reference": who})).json()
            for kind, who in (("access", MAIL), ("objection", MAIL), ("access", "loyalty_card:77"))
        ]

        async def listed(**wanted: Any) -> list[str]:
            seen: list[str] = []
            page: dict[str, Any] = {"next": ""}
            while page["next"] is not None:
                page = (await client.get("/v1/privacy/requests", params={**wanted, "limit": 2, "after": page["next"]})).json()
                seen += [each["request_id"] for each in page["requests"]]
            return seen

        ids = [each["request_id"] for each in made]
        newest_first = sorted(sorted(made, key=itemgetter("request_id")), key=itemgetter("received_at"), reverse=True)
        assert await listed() == [each["request_id"] for each in newest_first]
        assert set(await listed(kind="access")) == {ids[0], ids[2]}
        assert set(await listed(customer_id=made[0]["customer_id"])) == {ids[0], ids[1]}
        assert await listed(state="done") == []
        due = date.fromisoformat(made[0]["due_at"][:10])
        assert due - date.fromisoformat(made[0]["received_at"][:10]) == timedelta(days=30)
        assert (await client.get("/v1/privacy/requests", params={"after": "x"})).status_code == 422


async def test_the_same_idempotency_key_is_the_same_request(everything: Everything) -> None:
    async with everything.running() as client:
        await a_customer(everything)
        headers = {"idempotency-key": "letter of 3 May"}
        asked = {"kind": "access", "reference": MAIL}
        first, again = [(await client.post("/v1/privacy/requests", json=asked, headers=headers)).json() for _ in range(2)]
        assert first["request_id"] == again["request_id"]
        other = await client.post("/v1/privacy/requests", json={**asked, "kind": "erasure"}, headers=headers)
        assert other.status_code == 409
