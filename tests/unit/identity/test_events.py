"""From bytes to an event, or to the reason why not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.events import EVENT_LIMIT_BYTES, SourceEvent, read_event
from services.identity.domain.references import NamesNobody, naming
from services.identity.domain.rejects import Refusal, RejectReason
from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS, PURCHASES
from tests.identity.world import consent, event, identify, interaction, purchase, refund


def read(sent: Any, **kwargs: Any) -> SourceEvent:
    found = read_event(sent if isinstance(sent, bytes) else json.dumps(sent).encode(), "USD", **kwargs)
    assert isinstance(found, SourceEvent), found
    return found


def refusal(sent: Any, **kwargs: Any) -> Refusal:
    found = read_event(sent if isinstance(sent, bytes) else json.dumps(sent).encode(), "USD", **kwargs)
    assert isinstance(found, Refusal), found
    return found


def changed(sent: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {**sent, "data": {**sent["data"], **data}}


def without(sent: dict[str, Any], name: str) -> dict[str, Any]:
    return {**sent, "data": {key: value for key, value in sent["data"].items() if key != name}}


ONE_OF_EACH = [purchase("1"), refund("2"), interaction("3"), identify("4"), consent("5", True)]


@pytest.mark.parametrize("sent", ONE_OF_EACH, ids=lambda sent: sent["type"])
def test_every_type_is_read_and_kept_whole(sent: dict[str, Any]) -> None:
    kept = json.loads(read(sent).value)
    assert holds(kept, {**sent, "time": "2026-03-01T12:00:00Z"})


def holds(kept: Any, sent: Any) -> bool:
    """Is everything that was sent in what is kept, which may name absent fields as null?"""
    if isinstance(sent, dict):
        return all(name in kept and holds(kept[name], value) for name, value in sent.items())
    if isinstance(sent, list):
        return len(kept) == len(sent) and all(map(holds, kept, sent))
    return bool(kept == sent)


def test_an_anonymous_sale_names_nobody_and_is_valid() -> None:
    assert read(purchase("1", None)).references == ()


def test_references_are_normalised_where_they_are_kept() -> None:
    assert json.loads(read(purchase("1", "email:ANN@example.com")).value)["data"]["reference"] == "email:ann@example.com"
    assert read(identify("1", ("email:A@b.c", "email:a@b.c", "loyalty_card:1"))).references == ("email:a@b.c", "loyalty_card:1")


LINE = {"sku": "a", "quantity": 1}
REFUSED = [
    (b"", RejectReason.MALFORMED_JSON, "empty"),
    (b"{", RejectReason.MALFORMED_JSON, "not JSON"),
    (b"[]", RejectReason.MALFORMED_JSON, "object"),
    (b"[" * 30_000, RejectReason.MALFORMED_JSON, "not JSON"),
    (b'{"type":"\xff"}', RejectReason.MALFORMED_JSON, "not JSON"),
    (b'{"type":"\\ud800"}', RejectReason.MALFORMED_JSON, "not JSON"),
    (without(purchase("1"), "reference"), RejectReason.MISSING_REFERENCE, "data/reference"),
    (without(identify("1"), "references"), RejectReason.MISSING_REFERENCE, "data/references"),
    (changed(identify("1"), references=[]), RejectReason.MISSING_REFERENCE, "data/references"),
    (changed(purchase("1"), lines=[{**LINE, "amount_minor": -1}]), RejectReason.NEGATIVE_AMOUNT, "data/lines/0/amount_minor"),
    (refund("1", amount=-5), RejectReason.NEGATIVE_AMOUNT, "data/amount_minor"),
    (event("PurchaseDreamt", "1", {}), RejectReason.UNKNOWN_TYPE, "PurchaseDreamt"),
    ({"id": "1"}, RejectReason.UNKNOWN_TYPE, "type"),
    (changed(interaction("1"), properties={"a": "x" * EVENT_LIMIT_BYTES}), RejectReason.OVERSIZED, "bytes"),
    (changed(purchase("1"), currency="THB"), RejectReason.FOREIGN_CURRENCY, "data/currency"),
    (changed(purchase("1"), lines=[]), RejectReason.INVALID, "data/lines"),
    (changed(purchase("1"), lines=[{**LINE, "amount_minor": 1.5}]), RejectReason.INVALID, "data/lines/0/amount_minor"),
    (changed(purchase("1"), lines=[{**LINE, "amount_minor": 10**40}]), RejectReason.INVALID, "data/lines/0/amount_minor"),
    (changed(purchase("1"), lines=[{"sku": "a", "quantity": -1, "amount_minor": 1}]), RejectReason.INVALID, "data/lines/0/quantity"),
    (changed(purchase("1"), reference="nobody"), RejectReason.INVALID, "data/reference"),
    (changed(consent("1", True), reference="email:  "), RejectReason.NAMES_NOBODY, "data/reference: names nobody (placeholder)"),
    (identify("1", ("user:null", "phone:12")), RejectReason.NAMES_NOBODY, "names nobody (placeholder, malformed)"),
    (changed(interaction("1"), properties={"n": 2**63}), RejectReason.INVALID, "data/properties/n"),
    (changed(identify("1"), traits={"n": -(2**63) - 1}), RejectReason.INVALID, "data/traits/n"),
    ({**purchase("1"), "time": "2026-03-01T12:00:00"}, RejectReason.INVALID, "time"),
    ({**purchase("1"), "time": "0001-01-01T00:00:00+14:00"}, RejectReason.TIME_OUT_OF_RANGE, "1970 to 2099"),
    ({**purchase("1"), "time": "1970-01-01T00:30:00+01:00"}, RejectReason.TIME_OUT_OF_RANGE, "1970 to 2099"),
    ({**interaction("1"), "time": "1969-12-31T23:59:59.999Z"}, RejectReason.TIME_OUT_OF_RANGE, "1970 to 2099"),
    ({**identify("1"), "time": "2100-01-01T00:00:00Z"}, RejectReason.TIME_OUT_OF_RANGE, "1970 to 2099"),
    ({**purchase("1"), "time": "2099-12-31T23:30:00-01:00"}, RejectReason.TIME_OUT_OF_RANGE, "1970 to 2099"),
    ({**purchase("1"), "id": ""}, RejectReason.INVALID, "id"),
    ({**purchase("1"), "id": "a\x1fb"}, RejectReason.INVALID, "control"),
    ({**purchase("1"), "specversion": "0.3"}, RejectReason.INVALID, "specversion"),
    ({**purchase("1"), "data": None}, RejectReason.INVALID, "data"),
]


@pytest.mark.parametrize(("sent", "reason", "said"), REFUSED)
def test_what_cannot_be_kept_is_refused_with_its_reason(sent: Any, reason: RejectReason, said: str) -> None:
    found = refusal(sent)
    assert found.reason == reason
    assert said in found.detail


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00Z", "2099-12-31T23:59:59.999Z"])
def test_the_first_and_the_last_moment_are_kept(time: str) -> None:
    assert read({**purchase("1"), "time": time}).at.isoformat().startswith(time[:19])


def test_an_event_in_the_wrong_topic_is_refused_and_told_where_it_belongs() -> None:
    assert refusal(purchase("1"), topic=INTERACTIONS).reason == RejectReason.WRONG_TOPIC
    assert "customer-updates-v1" in refusal(identify("1"), topic=PURCHASES).detail
    assert read(identify("1"), topic=CUSTOMER_UPDATES)


def test_a_refusal_does_not_repeat_who_it_was_about() -> None:
    assert "ann" not in refusal(changed(purchase("1"), reference="email:ann\n@example.com")).detail


@given(st.binary(max_size=300))
def test_no_bytes_at_all_break_the_reader(raw: bytes) -> None:
    assert isinstance(read_event(raw, "USD"), Refusal)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(ONE_OF_EACH), st.sampled_from(["time", "id", "source", "data", "specversion", "type"]), JSON)
def test_no_value_of_any_attribute_breaks_the_reader(sent: dict[str, Any], name: str, value: Any) -> None:
    assert isinstance(read_event(json.dumps({**sent, name: value}).encode(), "USD"), SourceEvent | Refusal)


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_no_value_inside_the_data_breaks_the_reader(sent: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(sent["data"])))
    found = read_event(json.dumps(changed(sent, **{name: data.draw(JSON)})).encode(), "USD")
    assert isinstance(found, SourceEvent | Refusal)


def test_a_form_that_retires_nothing_is_the_same_as_before_there_was_such_a_thing() -> None:
    form = identify("1", traits={"name": "Ann"}, language="th", assets=[{"asset_id": "van", "kind": "vehicle"}])
    form["data"]["consents"] = [{"purpose": "marketing", "channel": "email", "granted": True}]
    assert read(form).content_hash.hex() == "3438fc4f50f8f42ca0f71117048974b6"
    assert read(changed(form, retired=[])).value == read(changed(form, retired=["email:null"])).value == read(form).value
    assert read(changed(form, retired=["email:old@b.c"])).content_hash != read(form).content_hash


def test_what_is_retired_is_spelt_as_it_is_known_also_where_it_is_blocked_now() -> None:
    rules = naming("TH", {}, ["phone:+66812345678"])
    found = read(identify("1", retired=["phone:081 234 5678", "email:x", "email:Old@B.c", "email:old@b.c"]), naming=rules)
    assert found.retired == ("phone:+66812345678", "email:old@b.c")
    assert json.loads(found.value)["data"]["retired"] == list(found.retired)
    assert found.dropped == (NamesNobody.MALFORMED,)
    assert read(purchase("1")).retired == ()


def test_the_hash_is_of_what_the_source_wrote() -> None:
    one = purchase("1")
    assert read(one).content_hash == read(json.dumps(one, indent=3).encode()).content_hash
    assert read(one).content_hash == read(dict(reversed(one.items()))).content_hash
    assert read(one).content_hash == read({**one, "time": "2026-03-01T13:00:00+01:00", "traceparent": "00-1"}).content_hash
    assert read(one).content_hash != read(purchase("1", amount=1251)).content_hash
    assert read(one).content_hash != read(purchase("1", "loyalty_card:43")).content_hash
    assert read(interaction("1", a=1, b=2)).content_hash == read(interaction("1", b=2, a=1)).content_hash


def test_a_time_that_the_edge_corrected_differently_is_the_same_event() -> None:
    one = {**purchase("1"), "sourcetime": "2026-03-01T11:00:00Z"}
    later = {**one, "time": "2026-03-01T12:00:09Z"}
    assert read(one).content_hash == read(later).content_hash
    assert read(one).content_hash != read({**later, "sourcetime": "2026-03-01T11:00:01Z"}).content_hash
    assert "sourcetime" not in json.loads(read(one).value)


SHOP = naming("TH", {"120": "US"}, ("phone:02-123-4567",))


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (purchase("1", "loyalty_card:0000"), NamesNobody.PLACEHOLDER),
        (refund("1", "user:anonymous"), NamesNobody.PLACEHOLDER),
        (interaction("1", "phone:+66 2 123 4567"), NamesNobody.BLOCKED),
        (purchase("1", "email:ann at example.com"), NamesNobody.MALFORMED),
    ],
)
def test_money_and_deeds_under_what_names_nobody_are_anonymous(sent: dict[str, Any], why: NamesNobody) -> None:
    found = read(sent, naming=SHOP)
    assert (found.references, found.dropped) == ((), (why,))
    assert json.loads(found.value)["data"]["reference"] is None


def test_a_form_loses_what_names_nobody_and_keeps_the_rest() -> None:
    found = read(identify("1", ("anonymous:0", "email:Ann@example.com", "phone:021234567")), naming=SHOP)
    assert found.references == ("email:ann@example.com",)
    assert found.dropped == (NamesNobody.PLACEHOLDER, NamesNobody.BLOCKED)


def test_a_phone_number_is_read_as_in_the_country_of_its_store() -> None:
    assert read(changed(purchase("1", "phone:(212) 555-0100"), store="120"), naming=SHOP).references == ("phone:+12125550100",)
    assert read(purchase("1", "phone:081-234-5678"), naming=SHOP).references == ("phone:+66812345678",)
    assert read(interaction("1", "phone:(212) 555-0100", store="120"), naming=SHOP).references == ("phone:+12125550100",)
    assert read(identify("1", ("phone:(212) 555-0100",), traits={"store": "120"}), naming=SHOP).references == ("phone:+12125550100",)


def test_what_only_our_own_routes_ask_for_is_no_choice_of_an_unknown_type() -> None:
    refusal = read_event(b'{"type": "dear.Bought"}', "USD")
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RejectReason.UNKNOWN_TYPE
    assert "dear.PurchaseRecorded" in refusal.detail
    assert "Requested" not in refusal.detail
