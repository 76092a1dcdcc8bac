"""One person with two cards, from two strangers to one customer and back, through the whole system.

The tests build on each other, in the order in which they are written.
"""

import urllib.request
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from services.campaigns.domain.holdout import holdout
from services.identity.domain.resolution import new_profile_id
from shared.contracts.topics import CUSTOMER_UPDATES, PURCHASES
from shared.kafka_admin import sender
from shared.streaming.partitions import partition_for
from stack.demo.quiet import wait_until_quiet
from stack.http import ask
from tests.e2e.conftest import System, running
from tests.e2e.people import keyed
from tests.e2e.test_merging_workers import until

pytestmark = pytest.mark.e2e

PATIENCE_SECONDS = 120
CAP = 3
NOW = datetime.now(UTC)
OF_THE_MARKET = ("as_of", "value_class", "rfm_cell", "risk", "risk_band", "buys_again", "expected_value_minor", "value_at_risk_minor")
THANKS, UPSELL = "regulars_thanks", "upsell"


def cards():
    """Two that no program leaves alone and that lie in different partitions; and a third one."""
    treated = (
        f"loyalty_card:{number}"
        for number in count(1)
        if not any(holdout(program, 0.1, new_profile_id(f"loyalty_card:{number}")) for program in ("welcome", THANKS, UPSELL))
    )
    one, third = next(treated), next(treated)
    return one, next(card for card in treated if place(card) != place(one)), third


def place(card):
    return partition_for(new_profile_id(card).encode())


ANN, TOO, STRANGER = cards()
A, B, C = map(new_profile_id, (ANN, TOO, STRANGER))
EMAIL = {ANN: "email:ann@example.com", TOO: "email:ann.two@example.com", STRANGER: "email:bob@example.com"}
USER = {ANN: "user:ann", TOO: "user:ann-two", STRANGER: "user:bob"}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    told = {"DEAR_QUIET_HOURS": "00:00-00:00", "DEAR_EMAIL_CAP_PER_DAY": str(CAP), "DEAR_MARKETING_CAP_PER_WEEK": "20"}
    yield from running(System(tmp_path_factory.mktemp("system"), "live", DEAR_RESCORE_SECONDS="3", **told))


@pytest.fixture(scope="module")
def up(system):
    return system.start()


@pytest.fixture(scope="module")
def before(up):
    """What there was to see before the two became one; the first of the tests fills it."""
    return {}


def event(kind, id, data, days_ago=0.0):
    at = (NOW - timedelta(days=days_ago)).isoformat()
    return {"specversion": "1.0", "id": id, "source": "story", "type": f"dear.{kind}", "time": at, "data": data}


def bought(id, card, amount_minor, days_ago):
    lines = [{"sku": "a", "quantity": 1, "amount_minor": amount_minor}]
    return event("PurchaseRecorded", id, {"reference": card, "store": "s", "currency": "USD", "lines": lines}, days_ago)


def comes(card, days_ago):
    consents = [{"purpose": "marketing", "channel": "email", "granted": True}]
    return event("CustomerIdentified", f"{card} comes", {"references": [card, EMAIL[card], USER[card]], "consents": consents}, days_ago)


def named_together(id, *references):
    return event("CustomerIdentified", id, {"references": list(references)})


def send(up, *events):
    with sender(up["kafka"]) as out:
        for each in events:
            topic = PURCHASES if each["type"].startswith("dear.Purchase") else CUSTOMER_UPDATES
            out.send(topic.name, *keyed(each))
    wait_until_quiet(up, PATIENCE_SECONDS)


def of(up, service, path):
    return ask(up["services"][service] + path)


def decide(up, what, **said):
    """A person decides, and everybody has heard of it."""
    ask(f"{up['services']['identity']}/v1/customers/{A}/{what}", {"by": "call centre", "evidence": "ticket 7", **said})
    wait_until_quiet(up, PATIENCE_SECONDS)


def seen(up, profile):
    """What each service shows of a profile's customer."""
    scores = of(up, "segmentation", f"/v1/customers/{profile}/scores")
    told = of(up, "identity", f"/v1/customers/{profile}/events?limit=1000")["events"]
    customer = of(up, "identity", f"/v1/customers/{profile}")
    loyalty = of(up, "campaigns", f"/v1/customers/{profile}/loyalty")
    offers = of(up, "campaigns", f"/v1/customers/{profile}/offers")["offers"]
    return {
        "customer": {name: customer[name] for name in ("customer_id", "members", "references", "consents", "first_seen_at")},
        "events": {each["id"] for each in told if each["source"] == "story"},
        "scores": {name: value for name, value in scores.items() if name not in OF_THE_MARKET},
        "points": loyalty["balance"],
        "entries": {each["cause_id"] for each in loyalty["entries"]},
        "offers": {(each["program"], each["status"], each["reason"]) for each in offers},
    }


def mails(up):
    """To whom, in order."""
    return [to for mail in ask(f"{up['mail']}/messages?limit=1000")["messages"] for to in mail["to"]]


def metric(up, service, name):
    with urllib.request.urlopen(f"{up['services'][service]}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_two_strangers_each_have_what_is_theirs(up, before):
    segments, programs = f"{up['services']['segmentation']}/v1/segments", f"{up['services']['campaigns']}/v1/programs"
    ask(f"{segments}/regulars", {"enters": {"field": "purchase_days", "at_least": 3}}, method="PUT")
    ask(f"{segments}/big_spenders", {"enters": {"field": "bought_minor", "at_least": 60_000}}, method="PUT")
    made = {"kind": "win_back", "objective": "keep", "bond": "financial", "customization_level": 1, "cost_per_contact_minor": 1}
    made["proposal"] = {
        "template": "win_back",
        "window_days": 30,
        "cooldown_days": 90,
        "valid_days": 30,
        "content": {"discount_percent": 5},
    }
    for name, of_segments in ((THANKS, ["regulars", "big_spenders"]), (UPSELL, ["big_spenders"])):
        trigger = {"on": "segment_entered", "segments": of_segments}
        ask(f"{programs}/{name}", {"name": name, **made, "trigger": trigger, "holdout_share": 0.0}, method="PUT")
    until("rules", lambda: not {"regulars", "big_spenders"} <= of(up, "segmentation", "/v1/segments")["segments"].keys())

    send(up, comes(ANN, 9), comes(TOO, 8), comes(STRANGER, 7))
    send(up, *(bought(f"a{number}", ANN, 10_000 + number, 6 - number) for number in range(3)), bought("b0", TOO, 15_000, 5))
    until("mails", lambda: len(mails(up)) != 4 and mails(up))
    wait_until_quiet(up, PATIENCE_SECONDS)

    assert sorted(mails(up)) == ["ann.two@example.com", "ann@example.com", "ann@example.com", "bob@example.com"]
    before |= {profile: seen(up, profile) for profile in (A, B, C)}
    assert [before[profile]["points"] for profile in (A, B, C)] == [300, 150, 0]
    assert before[A]["offers"] == {("welcome", "sent", None), (THANKS, "sent", None)}
    assert before[B]["offers"] == {("welcome", "sent", None)}
    assert before[B]["events"] == {f"{TOO} comes", "b0"}


def test_an_event_that_would_make_two_users_one_is_refused_and_says_by_which_rule(up, before):
    send(up, named_together("a form with two cards", ANN, STRANGER))
    [refused] = of(up, "identity", "/v1/outcomes/merge_refused")["outcomes"]
    assert (refused["reason"], refused["outcome"]) == ("limit_user", "merge_refused")
    assert of(up, "identity", "/v1/outcomes")["reasons"]["merge_refused"] == {"limit_user": 1}
    assert metric(up, "identity", 'dear_merges_refused_total{rule="limit_user"}') == 1
    assert metric(up, "identity", "dear_merges_total") == 0
    after = {profile: seen(up, profile) for profile in (A, B, C)}
    assert after[A]["events"] - before[A]["events"] == {"a form with two cards"}
    assert [{**each, "events": ()} for each in after.values()] == [{**each, "events": ()} for each in before.values()]
    before[A]["events"] = after[A]["events"]


def test_a_person_makes_them_one_everywhere(up, before):
    decide(up, "merge", other_id=B)
    until("the scores of both", lambda: {B} - set(of(up, "segmentation", f"/v1/customers/{A}/scores").get("others", ())))

    one, other = seen(up, A), seen(up, B)
    assert one["customer"]["customer_id"] == A
    assert one["customer"]["members"] == sorted([A, B])
    for reference in (*EMAIL.values(), *USER.values()):
        expected = C if reference in (EMAIL[STRANGER], USER[STRANGER]) else A
        assert of(up, "identity", f"/v1/customers/lookup?reference={reference}")["customer_id"] == expected
    assert one["points"] == before[A]["points"] + before[B]["points"]
    for name in ("events", "entries", "offers"):
        assert one[name] == before[A][name] | before[B][name]
    purchases, spent = (before[A]["scores"][name] + before[B]["scores"][name] for name in ("purchases", "bought_minor"))
    assert (one["scores"]["purchases"], one["scores"]["bought_minor"], one["scores"]["others"]) == (purchases, spent, [B])
    assert other["scores"].pop("asked_for") == B
    assert other == one
    assert of(up, "campaigns", "/v1/loyalty/summary")["liability_points"] == one["points"]
    assert metric(up, "identity", 'dear_merges_total{action="merged",rule="requested"}') == 1
    assert seen(up, C) == before[C]


def test_what_one_card_was_offered_and_sent_counts_for_the_other(up, before):
    """Neither alone has bought enough for the segment, nor was sent as much as the cap allows."""
    already = mails(up)
    send(up, bought("b1", TOO, 20_000, 0.01))
    until("an answer", lambda: not of(up, "campaigns", "/v1/reports/offers")["programs"].get(UPSELL, {}).get("suppressed"))
    wait_until_quiet(up, PATIENCE_SECONDS)

    programs = of(up, "campaigns", "/v1/reports/offers")["programs"]
    assert (programs[THANKS]["total"], programs[THANKS]["skipped"]) == (1, {"cooling_down": 1})
    assert (programs[UPSELL]["total"], programs[UPSELL]["suppressed"]) == (1, {"frequency_cap": 1})
    assert mails(up) == already
    assert seen(up, A)["points"] == before[A]["points"] + before[B]["points"] + 200


def test_after_a_split_each_has_what_was_its_own(up, before):
    decide(up, "split", profiles=[B])
    until("scores apart", lambda: of(up, "segmentation", f"/v1/customers/{B}/scores").get("asked_for"))
    wait_until_quiet(up, PATIENCE_SECONDS)

    ann, too = seen(up, A), seen(up, B)
    # What was decided for the customer that they were stays with the profile whose id it had.
    assert ann.pop("offers") == before[A]["offers"] | {(UPSELL, "suppressed", "frequency_cap")}
    assert ann == {name: value for name, value in before[A].items() if name != "offers"}
    assert too["customer"] == before[B]["customer"]
    assert too["events"] == before[B]["events"] | {"b1"}
    assert (too["points"], too["entries"]) == (before[B]["points"] + 200, before[B]["entries"] | {"b1"})
    assert too["offers"] == before[B]["offers"]
    assert (too["scores"]["purchases"], too["scores"]["bought_minor"]) == (2, 35_000)
    assert "others" not in ann["scores"]
    assert "others" not in too["scores"]
    for card, profile in ((ANN, A), (TOO, B), (STRANGER, C)):
        for reference in (card, EMAIL[card], USER[card]):
            assert of(up, "identity", f"/v1/customers/lookup?reference={reference}")["customer_id"] == profile
    assert metric(up, "identity", 'dear_merges_total{action="split",rule="requested"}') == 1
    made = of(up, "identity", f"/v1/customers/{B}/merges")["merges"]
    assert [(each["action"], each["rule"], each["by"]) for each in made] == [
        ("merged", "requested", "call centre"), ("split", "requested", "call centre"),
    ]  # fmt: skip


def test_no_event_makes_them_one_again(up):
    send(up, named_together("a form with both addresses", EMAIL[ANN], EMAIL[TOO]))
    assert of(up, "identity", "/v1/outcomes")["reasons"]["merge_refused"] == {"limit_user": 1, "split_before": 1}
    assert metric(up, "identity", 'dear_merges_refused_total{rule="split_before"}') == 1
    assert [of(up, "identity", f"/v1/customers/{profile}")["members"] for profile in (A, B)] == [[A], [B]]


def test_later_events_go_to_the_right_one_and_each_is_written_to_for_itself(up, before):
    ann, already = seen(up, A), mails(up)
    send(up, bought("b2", EMAIL[TOO], 30_000, 0.005))
    until("mails", lambda: len(mails(up)) < len(already) + 2 and mails(up))
    wait_until_quiet(up, PATIENCE_SECONDS)

    too = seen(up, B)
    assert (too["points"], too["scores"]["bought_minor"]) == (before[B]["points"] + 500, 65_000)
    assert too["offers"] == before[B]["offers"] | {(THANKS, "sent", None), (UPSELL, "sent", None)}
    assert sorted(mails(up)) == sorted([*already, "ann.two@example.com", "ann.two@example.com"])
    assert seen(up, A) == ann
