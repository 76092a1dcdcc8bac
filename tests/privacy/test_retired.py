"""An address that is theirs no more: nobody writes to it, what comes late still finds them by it, and it is erased as all others are."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from services.identity.domain.resolution import new_profile_id
from shared.contracts.topics import CUSTOMER_UPDATES
from tests.identity.world import CARD, day, identify, interaction, merge, purchase, split
from tests.privacy.test_merged import ALLOWED, archive_of, last_of
from tests.privacy.world import Everything

pytestmark = pytest.mark.anyio
OLD, NEW = "email:canary.old@example.com", "email:canary.new@example.com"
ANN, ANN_TOO = new_profile_id(CARD), new_profile_id(OLD)


async def rectify(everything: Everything, client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    done = await everything.ask(client, "rectification", reference=CARD, changes=changes)
    return dict(last_of(everything)[done["customer_id"]])


async def found_by(client: httpx.AsyncClient, reference: str) -> Any:
    answer = await client.get("/v1/customers/lookup", params={"reference": reference})
    return answer.json()["customer_id"] if answer.status_code == 200 else None


def mail_of(everything: Everything, customer: str) -> str | None:
    """Where notifications would write to."""
    [contact] = everything.databases["notifications"]["contacts"].find({"_id": customer})
    return contact["addresses"].get("email")  # type: ignore[no-any-return]


async def test_a_wrong_address_is_taken_off_and_stays_off_until_a_form_names_it_again(everything: Everything) -> None:
    async with everything.running() as client:
        await everything.send(identify("1", (CARD, OLD), consents=ALLOWED))
        published = await rectify(everything, client, retire_references=["email:Canary.Old@EXAMPLE.com"], references=[NEW])
        assert published["references"] == [CARD, NEW]
        assert mail_of(everything, ANN) == "canary.new@example.com"
        seen = (await client.get("/v1/customers/lookup", params={"reference": OLD})).json()
        assert (seen["references"], seen["retired_references"]) == ([CARD, NEW], [OLD])
        # What was under way finds them, and is no word on where they are reached.
        await everything.send(purchase("2", OLD, at=day(3)), interaction("3", OLD, at=day(4)), identify("4", (OLD,), at=day(-1)))
        assert await found_by(client, OLD) == ANN
        assert last_of(everything)[ANN]["references"] == [CARD, NEW]
        assert last_of(everything).keys() == {ANN}
        profile = json.loads(
            (await archive_of(client, (await everything.ask(client, "access", reference=OLD))["request_id"])).read("profile.json")
        )
        assert (profile["references"], profile["retired_references"]) == ([CARD, NEW], [OLD])
        assert {"what": "retired reference", "value": OLD}.items() <= profile["said"][2].items()
        await everything.send(identify("5", (CARD, OLD), at=day(5)))
        assert last_of(everything)[ANN]["references"] == [CARD, OLD, NEW]
        assert mail_of(everything, ANN) == "canary.old@example.com"


async def test_a_source_may_say_so_too(everything: Everything) -> None:
    async with everything.running() as client:
        await everything.send(identify("1", (CARD, OLD)), identify("2", (CARD, NEW), at=day(1), retired=[OLD]))
        assert last_of(everything)[ANN]["references"] == [CARD, NEW]
        said = {"references": [CARD], "retired": [NEW], "at": day(2).isoformat()}
        asking = asyncio.create_task(client.post("/v1/customers/updates", json=said))
        await asyncio.sleep(0.1)
        await everything.bus.settle()
        assert (await asking).status_code == 200
        assert last_of(everything)[ANN]["references"] == [CARD]


async def test_where_an_address_too_many_was_refused_retiring_one_makes_room(everything: Everything) -> None:
    five = [f"email:{number}@example.com" for number in range(5)]
    async with everything.running() as client:
        for number, address in enumerate(five):
            await everything.send(identify(f"{number}", (CARD, address), at=day(number)))
        await everything.send(identify("6", (CARD, NEW), at=day(6)))
        assert await found_by(client, NEW) is None
        published = await rectify(everything, client, retire_references=five[3:4], references=[NEW])
        assert published["references"] == [CARD, NEW, five[4], *reversed(five[:3])]
        assert await found_by(client, five[3]) == ANN
        # And no more than that.
        await everything.send(identify("7", (CARD, "email:7@example.com"), at=day(20)))
        assert await found_by(client, "email:7@example.com") is None


async def test_of_a_merged_customer_it_is_retired_where_it_is_and_comes_back_by_no_split_and_no_correction(everything: Everything) -> None:
    async with everything.running() as client:
        await everything.send(identify("1", (CARD,)), identify("2", (OLD,), at=day(1), traits={"city": "Bangkok"}))
        await everything.send(merge("m", CARD, OLD))
        assert (await rectify(everything, client, retire_references=[OLD]))["references"] == [CARD]
        # The second profile has no other name by which to say something of it.
        await rectify(everything, client, traits={"city": "Chiang Mai"})
        await everything.ask(client, "objection", reference=CARD)
        assert last_of(everything)[ANN]["references"] == [CARD]
        assert last_of(everything)[ANN]["traits"] == {"city": "Chiang Mai"}
        await everything.send(split("s", CARD, OLD))
        assert [last_of(everything)[each]["references"] for each in (ANN, ANN_TOO)] == [[CARD], []]


async def test_a_form_of_one_profile_takes_back_what_another_one_has(everything: Everything) -> None:
    async with everything.running() as client:
        await everything.send(identify("1", (CARD,)), identify("2", (OLD,), at=day(1)))
        await everything.send(merge("m", CARD, OLD))
        await rectify(everything, client, retire_references=[OLD])
        await everything.send(identify("3", (CARD, OLD), at=day(9)))
        assert last_of(everything)[ANN]["references"] == [CARD, OLD]


async def test_a_retired_address_is_erased_and_buried_as_all_others_are(everything: Everything) -> None:
    async with everything.running() as client:
        unread = purchase("6", OLD, amount=-5)
        await everything.send(identify("1", (CARD, OLD, NEW), consents=ALLOWED), unread)
        # One that nobody ever had is theirs as far as anybody said.
        await everything.send(identify("2", (CARD,), at=day(1), retired=[OLD, "email:canary.never@example.com"]))
        await everything.live(2)
        assert "identity.customers" in everything.where("canary.old")
        done = await everything.ask(client, "erasure", reference=OLD)
        await everything.live()
        assert everything.where("canary.old", "canary.new", "canary.never", "loyalty_card:42") == set()
        assert done["proof"]["erased"]["identity"]["references"] == 4
        late = [purchase("7", OLD, at=day(1)), interaction("8", "email:canary.never@example.com")]
        await everything.send(*late)
        assert (await client.get("/v1/outcomes")).json()["erased"] == 2
        await everything.send(purchase("9", OLD, at=day(30)))
        begun = await found_by(client, OLD)
        assert begun not in (None, ANN)
        assert last_of(everything)[begun]["references"] == [OLD]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"retire_references": ["email:somebody@example.com"]}, "changes/retire_references/0: the customer has no such reference"),
        ({"retire_references": ["email:null"]}, "changes/retire_references/0: the customer has no such reference"),
        ({"references": [OLD], "retire_references": [OLD]}, "changes/retire_references/0: is among changes/references, too"),
    ],
)
async def test_what_cannot_be_retired_is_refused(everything: Everything, changes: dict[str, Any], told: str) -> None:
    async with everything.running() as client:
        await everything.send(identify("1", (CARD, OLD)))
        asked = {"kind": "rectification", "reference": CARD, "changes": changes}
        answer = await client.post("/v1/privacy/requests", json=asked)
        assert (answer.status_code, answer.json()["detail"].startswith(told)) == (422, True), answer.text


async def test_nothing_is_left_of_the_erased_in_what_others_said_of_their_references(everything: Everything) -> None:
    bob = "email:canary.bob@example.com"
    async with everything.running() as client:
        await everything.send(identify("1", (CARD, OLD)), identify("2", ("loyalty_card:77", bob)))
        # Of Bob's address Ann's form says that it is hers, and another one that it is not: neither makes it hers.
        await everything.send(merge("3", CARD, "loyalty_card:77"))
        await everything.send(split("4", CARD, "loyalty_card:77"))
        await everything.send(identify("5", (CARD, bob), at=day(1)), identify("6", (CARD,), at=day(2), retired=[bob]))
        assert last_of(everything)[ANN]["references"] == [CARD, OLD]
        assert last_of(everything)[new_profile_id("loyalty_card:77")]["references"] == ["loyalty_card:77", bob]
        await everything.ask(client, "erasure", reference=bob)
        everything.bus.redeliver(CUSTOMER_UPDATES, group="identity")
        await everything.live()
        assert everything.where("canary.bob") == set()
        await everything.send(identify("7", (CARD, NEW), at=day(3)))
        assert last_of(everything)[ANN]["references"] == [CARD, NEW, OLD]
