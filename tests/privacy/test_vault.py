"""What people said is sealed at rest, readable through every way in, and gone with its key."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from services.identity import clerk
from services.identity.domain.resolution import new_profile_id
from services.identity.erasing import erase_here
from services.identity.store import timeline
from services.notifications.domain.reasons import Reason
from services.notifications.store import messages
from services.notifications.store.messages import Postponed
from shared.contracts.dead_letters import EventParked
from shared.contracts.envelope import Event
from shared.contracts.topics import CUSTOMERS, DEAD_LETTERS, OFFERS, PURCHASES
from shared.letters import open_letters
from shared.streaming.errors import Unavailable
from shared.streaming.records import Message
from shared.vault import SEALED, MasterKeyMissing, Vault, vault_of
from tests.identity.world import CARD, day, identify, interaction, purchase
from tests.privacy.test_requests import MAIL, NAME, WORDS, a_message
from tests.privacy.world import MASTER_KEY, Everything

pytestmark = pytest.mark.anyio


async def somebody(everything: Everything) -> None:
    await everything.send(identify("1", (CARD, MAIL), traits={"name": NAME}))
    await everything.send(interaction("2", MAIL, words=WORDS), purchase("3"))


async def test_what_people_said_is_sealed_and_what_they_bought_is_not(everything: Everything) -> None:
    async with everything.running() as client:
        await somebody(everything)
        kept = {each["_id"][-1]: bytes(each["event"]) for each in everything.databases["identity"]["timeline"].find({})}
        assert not any(text in kept[number] for number in "12" for text in (NAME.encode(), MAIL.encode(), WORDS.encode()))
        assert b'"amount_minor":1250' in kept["3"]
        customer = (await client.get("/v1/customers/lookup", params={"reference": MAIL})).json()
        events = (await client.get(f"/v1/customers/{customer['customer_id']}/events")).json()["events"]
        assert {each["id"]: each["type"] for each in events}.keys() == {"1", "2", "3"}
        assert WORDS in str(events)
        assert json.loads(timeline.event_under("till/1\x1f2") or b"")["data"]["properties"] == {"words": WORDS}
        told = [await client.post("/v1/timeline/read", json={"partition": number}) for number in range(8)]
        assert WORDS in "".join(each.text for each in told)
        assert WORDS in (await client.post("/v1/export/events", json={})).text


async def test_without_its_key_a_copy_of_the_timeline_says_nothing(everything: Everything) -> None:
    async with everything.running() as client:
        await somebody(everything)
        customer = (await client.get("/v1/customers/lookup", params={"reference": MAIL})).json()["customer_id"]
        assert vault_of("identity").destroy([customer]) == 1
        assert timeline.event_under("till/1\x1f2") is None
        events = (await client.get(f"/v1/customers/{customer}/events")).json()["events"]
        assert [each["id"] for each in events] == ["3"]


async def test_an_event_that_moves_to_another_profile_is_sealed_for_that_one(everything: Everything) -> None:
    async with everything.running():
        await somebody(everything)
        key, profile = "till/1\x1f1", new_profile_id(CARD)
        said = timeline.event_under(key) or b""
        timeline.set_profiles({key: ("f" * 32, said)})
        assert vault_of("identity").destroy([profile]) == 1
        assert timeline.event_under(key) == said
        assert timeline.event_under("till/1\x1f2") is None


def parked_now(everything: Everything) -> list[EventParked]:
    """The letters that were not taken away."""
    last = {each.key: each.value for each in everything.bus.records(DEAD_LETTERS)}
    return [Event[EventParked].model_validate_json(value).data for value in last.values() if value is not None]


def keys_read(letters: list[EventParked]) -> set[bytes | None]:
    """The records' keys of those that can be opened by whoever has these letters, the databases and the master key."""
    opened = [content for each in letters for content in open_letters(Vault(each.group, MASTER_KEY.encode()), [each])]
    return {content.key for content in opened if content is not None}


async def test_a_letter_is_sealed_for_whom_its_key_names_and_its_copies_say_nothing_once_they_are_erased(everything: Everything) -> None:
    async with everything.running() as client:
        await somebody(everything)
        customer = (await client.get("/v1/customers/lookup", params={"reference": MAIL})).json()["customer_id"].encode()
        of_ann = (MAIL.encode(), b"email: Canary.Ann@Example.com ")
        of_bob, bobs_card = b"email:bob@example.com", b"loyalty_card:77"
        for key in (*of_ann, of_bob):
            await everything.bus.append(PURCHASES, Message(key, b"neither JSON nor a name"))
        for key in (b"", bobs_card):
            await everything.bus.append(PURCHASES, Message(key, f"{MAIL} said {WORDS}".encode()))
        for topic in (OFFERS, CUSTOMERS):
            await everything.bus.append(topic, Message(customer, WORDS.encode()))
        await everything.bus.settle()
        plain = {"identity.references", "identity.customers", "identity.profiles", "customers-v1", "notifications.contacts"}
        assert everything.where(MAIL.partition(":")[2], WORDS) <= plain
        copies = parked_now(everything)
        assert Counter(each.group for each in copies) == {"identity": 5, "segmentation": 2, "notifications": 2, "campaigns": 1}
        assert keys_read(copies) == {*of_ann, of_bob, b"", bobs_card, customer}
        assert everything.databases["identity"]["outcomes"].count_documents({"event": {"$ne": None}}) == 5
        proof = (await everything.ask(client, "erasure", reference=MAIL))["proof"]["erased"]
        assert {name: proof[name]["dead_letters"] for name in proof} == {
            "identity": 4, "segmentation": 2, "notifications": 2, "campaigns": 1,
        }  # fmt: skip
        assert keys_read(parked_now(everything)) == {of_bob}
        assert keys_read(copies) == {of_bob, bobs_card}
        assert everything.databases["identity"]["outcomes"].count_documents({"event": {"$ne": None}}) == 1
        # What nobody can open any more goes with whoever is erased next.
        closed = [each for each in everything.bus.records(DEAD_LETTERS) if each.value and MAIL.encode() not in each.value]
        await everything.bus.publish(DEAD_LETTERS, [Message(each.key or b"", each.value) for each in closed])
        await everything.send(purchase("9", bobs_card.decode()))
        await everything.ask(client, "erasure", reference=bobs_card.decode())
        assert keys_read(parked_now(everything)) == {of_bob}
        assert len(parked_now(everything)) == 1


def shown_now(message_id: str) -> dict[str, Any]:
    return next(each for each in messages.page(None, None, "", 10) if each["_id"] == message_id)


async def test_what_a_message_says_is_sealed_and_its_copy_says_nothing_without_the_key(everything: Everything) -> None:
    async with everything.running() as client:
        await somebody(everything)
        customer = (await client.get("/v1/customers/lookup", params={"reference": MAIL})).json()["customer_id"]
        sent = replace(a_message(customer, MAIL), content={"said": WORDS})
        messages.record([sent], {customer: Postponed(sent, day(8), Reason.TRY_LATER, day(8), f"450 {MAIL} is busy")})
        collection = everything.databases["notifications"]["messages"]
        [copy] = collection.find({"_id": customer})
        assert "notifications.messages" not in everything.where(MAIL.partition(":")[2], WORDS)
        shown = shown_now(customer)
        assert (shown["content"], shown["reference"], shown["detail"]) == ({"said": WORDS}, MAIL, f"450 {MAIL} is busy")
        assert messages.find(customer) == sent
        assert (await everything.ask(client, "erasure", reference=MAIL))["proof"]["erased"]["notifications"]["messages"] >= 1
        collection.replace_one({"_id": customer}, copy)
        shown = shown_now(customer)
        assert (shown["content"], shown["reference"], shown["detail"]) == (None, None, None)
        assert messages.find(customer) == replace(sent, content={}, reference=None)


async def test_a_purchase_under_an_address_is_sealed_and_one_under_a_card_is_not(everything: Everything) -> None:
    async with everything.running() as client:
        await everything.send(purchase("1", MAIL), purchase("2", CARD))
        kept = {each["_id"][-1]: bytes(each["event"]) for each in everything.databases["identity"]["timeline"].find({})}
        assert (kept["1"].startswith(SEALED), kept["2"].startswith(b"{")) == (True, True)
        customer = (await client.get("/v1/customers/lookup", params={"reference": MAIL})).json()["customer_id"]
        [shown] = (await client.get(f"/v1/customers/{customer}/events")).json()["events"]
        assert (shown["id"], shown["data"]["reference"]) == ("1", MAIL)


async def test_what_was_parked_while_somebody_was_erased_is_found_by_the_second_round(
    everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[EventParked] = []

    async def erase_and_park(*how: Any) -> Any:
        """A worker held it when the first round looked."""
        done = await erase_here(*how)
        if not copies:
            await everything.bus.append(PURCHASES, Message(MAIL.encode(), f"no JSON: {WORDS}".encode()))
            await everything.bus.settle()
            copies.extend(parked_now(everything))
        return done

    monkeypatch.setattr(clerk, "erase_here", erase_and_park)
    async with everything.running() as client:
        await somebody(everything)
        await everything.ask(client, "erasure", reference=MAIL)
        assert len(copies) == 1
        assert parked_now(everything) == []
        assert keys_read(copies) == set()
        assert everything.databases["identity"]["outcomes"].count_documents({"event": {"$ne": None}}) == 0


async def test_the_key_of_a_text_that_names_nobody_goes_with_it(everything: Everything) -> None:
    async with everything.running() as client:
        await somebody(everything)
        await everything.bus.append(PURCHASES, Message(b"", f"{MAIL} said {WORDS}".encode()))
        await everything.bus.settle()
        outcomes, keys = (everything.databases["identity"][name] for name in ("outcomes", "profile_keys"))
        [copy] = outcomes.find({"outcome": "parked"})
        await everything.ask(client, "erasure", reference=MAIL)
        outcomes.replace_one({"_id": copy["_id"]}, copy)
        assert (await client.get("/v1/outcomes/parked/event", params={"origin": copy["origin"]})).status_code == 404
        assert keys.count_documents({"_id": copy["_id"]}) == 0


async def test_an_erasure_that_dies_between_key_and_tombstone_leaves_no_letter_that_can_be_read(everything: Everything) -> None:
    async with everything.running() as client:
        await somebody(everything)
        for key in (b"", MAIL.encode()):
            await everything.bus.append(PURCHASES, Message(key, f"{MAIL} said {WORDS}".encode()))
        await everything.bus.settle()
        copies = parked_now(everything)
        everything.bus.fail_publishes(1, DEAD_LETTERS)
        requests = everything.databases["identity"]["privacy_requests"]
        made = await client.post("/v1/privacy/requests", json={"kind": "erasure", "reference": MAIL})
        for _ in range(40):
            with suppress(Unavailable):
                await everything.live(1)
            requests.update_many({}, {"$set": {"leased_until": None}})
            if (await client.get(made.headers["location"])).json()["state"] == "done":
                break
        assert parked_now(everything) == []
        assert keys_read(copies) == set()


async def test_two_processes_agree_on_a_profiles_key(everything: Everything) -> None:
    async with everything.running():
        one, other = Vault("identity", b"a master key of ours"), Vault("identity", b"a master key of ours")
        [first] = one.seal([("p" * 32, "name", b"said")])
        [second] = other.seal([("p" * 32, "name", b"said")])
        assert first != second
        assert other.open([("p" * 32, "name", first)]) == one.open([("p" * 32, "name", second)]) == [b"said"]
        assert one.open([("p" * 32, "another name", first)]) == [None]
        # One destroys the key, and another is made: who remembers the first opens what was sealed since, and no more what was before.
        assert other.destroy(["p" * 32]) == 1
        [third] = other.seal([("p" * 32, "name", b"said anew")])
        assert one.open([("p" * 32, "name", third)]) == [b"said anew"]
        assert one.open([("p" * 32, "name", second)]) == [None]


async def test_another_master_key_is_said_so(everything: Everything) -> None:
    async with everything.running():
        sealed = Vault("identity", b"a master key of ours").seal([("q" * 32, "name", b"said")])[0]
        for other in (b"some other master key", None):
            with pytest.raises(MasterKeyMissing, match="DEAR_MASTER_KEY"):
                Vault("identity", other).open([("q" * 32, "name", sealed)])
        assert Vault("identity", None).seal([("q" * 32, "name", b"said")]) == [b"said"]
