"""Customers are merged and split while several workers of each service share the partitions and are killed one after the other.

What is left at the end is computed from the events alone: who is one customer, what each has bought, and its points. Scores have a twin:
somebody who did the same under one profile from the beginning, and of whom the same has to be told as of the merged one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.identity.domain.resolution import new_profile_id
from services.segmentation.copies import Copies, Said
from services.segmentation.domain.arrays import ids_from_hex
from services.segmentation.domain.state import CustomerState, restore, unpack
from shared.contracts.topics import CUSTOMER_UPDATES, CUSTOMERS, PROFILE_ROWS, PURCHASES
from shared.kafka_admin import Sender, read_topic, sender
from shared.streaming.partitions import partition_for
from stack.http import ServiceAway, ask
from stack.process import Child, free_port
from tests.conftest import TEST_BROKER
from tests.e2e.conftest import System, running
from tests.e2e.people import Customer, Person, Sale, keyed, people
from tests.properties.test_merging import PATH_DEPENDENT

pytestmark = pytest.mark.e2e

TIMES = 3
"""Persons of each plot."""
SEVERAL = ("identity", "segmentation")
"""The services that have a second worker."""
AT_ONCE = 8
SESSION_SECONDS = "6" if TEST_BROKER == "kafka" else "3"
"""As short as the broker lets it be: so long the partitions of the dead wait (twice as long on the embedded one)."""
PATIENCE_SECONDS = 120
OF_THE_MOMENT = ("customer_id", "as_of", "others", "asked_for")
FINER_THAN_TOLD = ("risk", "buys_again", "expected_value_minor", "value_at_risk_minor")
"""Are of the market of the moment at which something worth telling changed; risk is, by twentieths."""


def until(what: str, holds: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait; `holds` says what is still missing."""
    deadline = time.monotonic() + seconds
    while missing := holds():
        assert time.monotonic() < deadline, f"{what}: {missing}"
        time.sleep(0.1)


@dataclass
class Crew:
    """The workers: those that the supervisor brings back, and a second one of some services, which we do."""

    system: System
    seconds: dict[str, Child] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _watching: threading.Thread | None = None

    def hire(self, data_dir: Path) -> None:
        """Start the second ones, each with a data directory of its own, as on another machine."""
        for name in SEVERAL:
            first = self.system.supervisor.services[name].child
            environment = {**first.environment, "DEAR_PORT": str(free_port()), "DEAR_DATA_DIR": str(data_dir / name)}
            self.seconds[name] = Child(f"{name} 2", first.command, data_dir / f"{name}-2.log", environment)
            self.seconds[name].start()
        self._watching = threading.Thread(target=self._bring_back, daemon=True)
        self._watching.start()

    def _bring_back(self) -> None:
        while not self._over.wait(0.2):
            for child in self.seconds.values():
                child.start()

    def dismiss(self) -> bool:
        """Ask the second ones to leave, and end those that do not; True if all left by themselves."""
        self._over.set()
        if self._watching is not None:
            self._watching.join(10)
        for child in self.seconds.values():
            child.terminate()
        left = [child.stop(20) for child in self.seconds.values()]
        return all(left)

    def urls(self, name: str) -> list[str]:
        """Where processes of a service answer."""
        return [f"http://127.0.0.1:{child.environment['DEAR_PORT']}" for child in self.all_of(name)]

    def all_of(self, name: str) -> list[Child]:
        """Its processes."""
        second = self.seconds.get(name)
        return [self.system.supervisor.services[name].child, *([second] if second is not None else [])]

    def kill(self, child: Child) -> None:
        """As if the power went; it is brought back."""
        until("a life to end", lambda: child.pid is None)
        pid = child.pid or 0
        os.kill(pid, signal.SIGKILL)
        until("a death", lambda: child.pid == pid)

    def said(self) -> str:
        """The ends of all logs."""
        return self.system.last_words() + "".join(f"\n== {each.log}\n{each.last_words()}" for each in self.seconds.values())


@dataclass
class Desk:
    """Somebody who asks identity, whichever of its processes answers, again and again until one does."""

    urls: list[str]
    out: Sender
    done: list[str] = field(default_factory=list)
    """Steps of all plots."""

    def __post_init__(self) -> None:
        self._turns, self._http = cycle(self.urls), httpx.Client(timeout=10)

    def ask(self, method: str, path: str, key: str = "", body: Any = None) -> Any:
        """An answer below 500."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                named = {"idempotency-key": key} if key else {}
                answer = self._http.request(method, next(self._turns) + path, json=body, headers=named)
                if answer.status_code < 500:
                    assert answer.status_code in (200, 202), (path, answer.text)
                    return answer.json()
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"nobody answers {path}"
            time.sleep(0.2)

    def send(self, event: dict[str, Any]) -> None:
        """As a source that writes to the broker itself."""
        topic = PURCHASES if event["type"].startswith("dear.Purchase") else CUSTOMER_UPDATES
        self.out.send(topic.name, *keyed(event))

    def live(self, person: Person) -> None:
        """Ask what the plot says, one after the other, and buy in between."""
        rest = [sale for sales in person.sales.values() for sale in sales[1:]]
        for number, (what, letters) in enumerate(person.plot.asked):
            for sale in rest[number::3]:
                self.send(sale.event)
            self._step(person, what, letters)
            self.done.append(what)
        # Some of them come a second time.
        for sale in rest:
            self.send(sale.event)
        self.done.append("bought")

    def _step(self, person: Person, what: str, letters: str) -> None:
        one, other = map(person.profile, letters)
        if what in ("event", "refused"):
            self.send(person.named_together(letters))
            if what == "event":
                self._wait(person, one, other, as_one=True)
            return
        said = {"other_id": other} if what == "merge" else {"profiles": [other]}
        wanted = {"by": "call centre", "evidence": "ticket 7", **said}
        self.ask("POST", f"/v1/customers/{one}/{what}", f"{person.name} {what}s {letters}", wanted)
        self._wait(person, one, other, as_one=what == "merge")

    def _wait(self, person: Person, one: str, other: str, as_one: bool) -> None:
        def missing() -> Any:
            # At no moment is one of them unknown.
            found = [self.ask("GET", f"/v1/customers/{each}")["members"] for each in (one, other)]
            return found if any((other in members and one in members) != as_one for members in found) else None

        until(f"{person.name} {'one' if as_one else 'two'}", missing)


@pytest.fixture
def merging_system(tmp_path: Path) -> Iterator[System]:
    told = {"DEAR_SESSION_SECONDS": SESSION_SECONDS, "DEAR_RESCORE_SECONDS": "3", "DEAR_SNAPSHOT_SECONDS": "2"}
    yield from running(System(tmp_path / "system", "live", **told))


@contextmanager
def working(system: System, data_dir: Path) -> Iterator[Crew]:
    crew = Crew(system)
    try:
        crew.hire(data_dir)
        yield crew
    finally:
        crew.dismiss()


def test_customers_end_as_the_events_say_whichever_workers_are_killed(merging_system: System, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    told = people(TIMES, datetime.now(UTC), chance)
    up = merging_system.start()
    with working(merging_system, tmp_path / "second") as crew, sender(up["kafka"]) as out:
        desk = Desk(crew.urls("identity"), out)
        open_the_shop(desk, told)
        try:
            live_and_kill(desk, told, crew, chance)
            out.flush()
            check(crew, up, desk, told)
        except AssertionError as failure:
            failure.add_note(f"seed {seed}\n{crew.said()}")
            raise


def open_the_shop(desk: Desk, told: list[Person]) -> None:
    """Everybody buys once, so that all profiles are there before an event names two of them. The twins do all that they ever do."""
    for person in told:
        for sales in person.sales.values():
            desk.send(sales[0].event)
        for event in person.introductions():
            desk.send(event)
        for customer in person.in_the_end():
            for sale in customer.of_the_twin():
                desk.send(sale.event)
    profiles = sum(len(person.sales) + len(person.plot.ends) for person in told)
    until("everybody known", lambda: (found := desk.ask("GET", "/v1/summary")["customers"]) != profiles and f"{found} of {profiles}")
    users = [card for person in told for event in person.introductions() for card in event["data"]["references"]]
    until("users known", lambda: [each for each in users if not desk.ask("GET", f"/v1/customers?search={each}")["customers"]])


def live_and_kill(desk: Desk, told: list[Person], crew: Crew, chance: random.Random) -> None:
    """All plots, a few at a time; each process of the three services is killed once on the way, in any order."""
    doomed = [child for name in (*SEVERAL, "campaigns") for child in crew.all_of(name)]
    chance.shuffle(doomed)
    steps = sum(len(person.plot.asked) + 1 for person in told)
    order = chance.sample(told, len(told))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lives = [pool.submit(desk.live, person) for person in order]
        for number, child in enumerate(doomed, 1):
            due = number * steps // (len(doomed) + 1)
            until("steps", lambda due=due: len(desk.done) < due and not all(each.done() for each in lives))
            crew.kill(child)
        for each in lives:
            each.result()


def check(crew: Crew, up: dict[str, Any], desk: Desk, told: list[Person]) -> None:
    """Everything, in the order in which events pass."""
    ends = [customer for person in told for customer in person.in_the_end()]
    sales = [sale for customer in ends for sale in (*customer.sales, *customer.of_the_twin())]
    until("events", lambda: _differ({"accepted": len(sales)}, desk.ask("GET", f"/v1/outcomes?topic={PURCHASES.name}")))
    check_identity(up, desk, ends, told)
    check_segmentation(crew, up, ends)
    ids = {member: customer.points for customer in ends for member in (*customer.members, new_profile_id(customer.twin))}
    campaigns = up["services"]["campaigns"]
    until("points", lambda: _differ(ids, asked(f"{campaigns}/v1/loyalty/balances", {"customers": list(ids)}).get("balances", {})))
    report = ask(f"{campaigns}/v1/reports/ledger")
    assert (report["entries"], report["ledger_sum"]) == (len(sales), 2 * sum(customer.points for customer in ends))


def asked(url: str, body: object = None) -> Any:
    """The answer, or nothing while the process is being brought back."""
    try:
        return ask(url, body, 10)
    except ServiceAway:
        return {}


def _differ(expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> dict[Any, Any]:
    return {name: (value, found.get(name)) for name, value in expected.items() if found.get(name) != value}


def check_identity(up: dict[str, Any], desk: Desk, ends: list[Customer], told: list[Person]) -> None:
    """Asked and published, it says the same: who is one customer, under the id of the oldest profile."""
    expected = {member: (customer.members[0], set(customer.members)) for customer in ends for member in customer.members}

    def answered(profile: str) -> Any:
        found = desk.ask("GET", f"/v1/customers/{profile}")
        return found["customer_id"], set(found["members"])

    until("customers", lambda: _differ(expected, {profile: answered(profile) for profile in expected}))
    until("customers published", lambda: _differ(expected, published(up["kafka"])))
    check_decisions(desk, told)
    outcomes = desk.ask("GET", "/v1/outcomes")
    assert (outcomes["quarantined"], outcomes["parked"]) == (0, 0)


def check_decisions(desk: Desk, told: list[Person]) -> None:
    """Each question was answered once, in the order in which it was asked, and each refusal is there with its rule."""
    refused = Counter(person.plot.refused_by for person in told if person.plot.refused_by)
    until("refusals", lambda: _differ(refused, desk.ask("GET", "/v1/outcomes")["reasons"].get("merge_refused", {})))
    for person in told:
        made = desk.ask("GET", f"/v1/customers/{person.profile('a')}/merges")["merges"]
        asked = [("split" if what == "split" else "merged") for what, _ in person.plot.asked if what != "refused"]
        assert [each["action"] for each in made if each["action"] != "refused"] == asked, person.name


def published(kafka: str) -> dict[str, Any]:
    """Profile -> its customer and that one's profiles, by the last words; nobody may have had a later one before."""
    last: dict[str, dict[str, Any]] = {}
    for each in read_topic(kafka, CUSTOMERS):
        said = json.loads(each.record.value or b"{}")["data"]
        if (before := last.get(said["customer_id"])) is None or said["version"] >= before["version"]:
            last[said["customer_id"]] = said
    homes = {profile: last.get(said["merged_into"] or profile, said) for profile, said in last.items()}
    return {profile: (home["customer_id"], set(home["members"])) for profile, home in homes.items()}


def check_segmentation(crew: Crew, up: dict[str, Any], ends: list[Customer]) -> None:
    """Sums, whose scores are whose, and copies, while two have the partitions; then what only one market makes the same for all."""
    url = up["services"]["segmentation"]
    sales = [sale for customer in ends for sale in customer.sales]
    totals = {name: 2 * value for name, value in {"customers": len(ends), **_bought(sales)}.items()}
    until("rows", lambda: _differ(totals, asked(f"{url}/v1/totals")))
    until("whose scores", lambda: wrong_scores(url, ends, _is_whose))
    check_copies(up["kafka"], ends)
    assert crew.dismiss(), "whoever is asked to leave does"
    until("scores", lambda: wrong_scores(url, ends, _as_the_twin))


def _bought(sales: Sequence[Sale]) -> dict[str, int]:
    amounts = [sale.amount_minor for sale in sales]
    return {
        "purchases": sum(amount > 0 for amount in amounts),
        "bought_minor": sum(amount for amount in amounts if amount > 0),
        "refunded_minor": -sum(amount for amount in amounts if amount < 0),
    }


Wrong = Callable[[Customer, list[dict[str, Any]]], dict[str, Any]]


def wrong_scores(url: str, ends: Sequence[Customer], wrong: Wrong) -> list[Any]:
    """What is wrong with the scores under the ids of each customer's profiles and of the twin, which is the last."""
    ids = {customer: [*customer.members, new_profile_id(customer.twin)] for customer in ends}
    asked_for = [each for some in ids.values() for each in some]
    answer = asked(f"{url}/v1/scores/lookup", {"customer_ids": asked_for})
    if answer.get("unknown", asked_for):
        return ["unknown", *answer.get("unknown", ())]
    found = iter(answer["customers"])
    return [(customer.references, fault) for customer, some in ids.items() if (fault := wrong(customer, [next(found) for _ in some]))]


def _is_whose(customer: Customer, found: list[dict[str, Any]]) -> dict[str, Any]:
    home, *others = customer.members
    expected = {"customer_id": home, "others": sorted(others), **_bought(customer.sales)}
    shown = [{**each, "others": sorted(each.get("others", ()))} for each in found[:-1]]
    return next((wrong for each in shown if (wrong := _differ(expected, each))), {})


def _as_the_twin(customer: Customer, found: list[dict[str, Any]]) -> dict[str, Any]:
    *shown, twin = map(_told, found)
    return next((wrong for each in shown if (wrong := _differ(twin, each))), {})


def _told(scores: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in scores.items() if name not in (*OF_THE_MOMENT, *FINER_THAN_TOLD)}
    return {**told, "segments": sorted(set(scores["segments"]) - PATH_DEPENDENT), "twentieths of risk": round(scores["risk"] * 20)}


def check_copies(kafka: str, ends: Iterable[Customer]) -> None:
    """Of each profile that is part of a customer elsewhere there is one copy, with that customer, and it is its row."""
    expected = {
        (partition_for(customer.members[0].encode()), profile): (
            customer.members[0],
            _bought([sale for sale in customer.sales if sale.reference == reference]),
        )
        for customer in ends
        for profile, reference in zip(customer.members[1:], customer.references[1:], strict=True)
    }

    def missing() -> Any:
        found = copies(kafka)
        return _differ(expected, found) or [each for each in found if each not in expected]

    until("copies", missing)


def copies(kafka: str) -> dict[tuple[int, str], Any]:
    """(partition, profile) -> the customer, and what the row says was bought, for every copy that compaction would keep."""
    last: dict[tuple[int, bytes | None], Any] = {}
    held: dict[int, Copies] = {}
    for each in read_topic(kafka, PROFILE_ROWS):
        last[each.partition, each.record.key] = each.record
        held.setdefault(each.partition, Copies()).take([each.record])
    for (partition, key), record in last.items():
        assert (record.value is not None) == ((key or b"")[:32].decode() in held[partition].held), "compaction keeps what readers have"
    return {(number, profile): _row(profile, copy.said) for number, each in held.items() for profile, copy in each.held.items()}


def _row(profile: str, said: Said) -> Any:
    state = CustomerState()
    rows = state.add(ids_from_hex(profile.encode()))
    restore(state, rows, unpack(state.ids[rows], [said.row]))
    columns = {"purchases": state.purchase_count, "bought_minor": state.bought_minor, "refunded_minor": state.refunded_minor}
    return said.customer, {name: int(column[rows][0]) for name, column in columns.items()}
