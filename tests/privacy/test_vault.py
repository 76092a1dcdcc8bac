"""What people said is sealed at rest, readable through every way in, and gone with its key."""

from __future__ import annotations

import json

import pytest
from cryptography.exceptions import InvalidTag

from services.identity.domain.resolution import new_profile_id
from services.identity.store import timeline, vault
from services.identity.store.vault import MasterKeyMissing, Vault
from tests.identity.world import CARD, identify, interaction, purchase
from tests.privacy.test_requests import MAIL, NAME, WORDS
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
        assert vault.destroy([customer]) == 1
        vault.use(Vault(MASTER_KEY.encode()))
        assert timeline.event_under("till/1\x1f2") is None
        events = (await client.get(f"/v1/customers/{customer}/events")).json()["events"]
        assert [each["id"] for each in events] == ["3"]


async def test_an_event_that_moves_to_another_profile_is_sealed_for_that_one(everything: Everything) -> None:
    async with everything.running():
        await somebody(everything)
        key, profile = "till/1\x1f1", new_profile_id(CARD)
        said = timeline.event_under(key) or b""
        timeline.set_profiles({key: ("f" * 32, said)})
        assert vault.destroy([profile]) == 1
        vault.in_use().forget()
        assert timeline.event_under(key) == said
        assert timeline.event_under("till/1\x1f2") is None


async def test_two_processes_agree_on_a_profiles_key(everything: Everything) -> None:
    async with everything.running():
        one, other = Vault(b"a master key of ours"), Vault(b"a master key of ours")
        [first] = one.seal([("p" * 32, "name", b"said")])
        [second] = other.seal([("p" * 32, "name", b"said")])
        assert first != second
        assert other.open([("p" * 32, "name", first)]) == one.open([("p" * 32, "name", second)]) == [b"said"]
        with pytest.raises(InvalidTag):
            one.open([("p" * 32, "another name", first)])


async def test_another_master_key_is_said_so(everything: Everything) -> None:
    async with everything.running():
        sealed = Vault(b"a master key of ours").seal([("q" * 32, "name", b"said")])[0]
        for other in (b"some other master key", None):
            with pytest.raises(MasterKeyMissing, match="DEAR_MASTER_KEY"):
                Vault(other).open([("q" * 32, "name", sealed)])
        assert Vault(None).seal([("q" * 32, "name", b"said")]) == [b"said"]
