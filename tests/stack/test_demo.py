"""The demo's history is exact, its count of what is under way is right, and its report notices what is wrong."""

import signal
import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from services.notifications.domain.reasons import Reason
from shared.contracts.customers import CustomerIdentified
from shared.contracts.envelope import Event
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.purchases import PurchaseRecorded, total_minor
from stack.demo.flight import AHEAD_MAX, IN_FLIGHT_MAX, Flight, percentiles
from stack.demo.history import Totals, cdnow, complete_journey
from stack.demo.report import differences
from stack.demo.run import Guard, Interrupted, supervised
from stack.demo.tables import WORDS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def journey():
    return complete_journey()


class Supervised:
    """Stands in for a supervisor whose watch ends in a way that nobody foresaw."""

    def __init__(self, data_dir, failure=None):
        self.directory = SimpleNamespace(path=data_dir)
        self.stopped, self._failure = threading.Event(), failure

    def start(self):
        return {}

    def run(self):
        if self._failure is not None:
            raise self._failure
        self.stopped.wait(60)

    def stop(self):
        self.stopped.set()


@pytest.fixture
def _signals():
    """A demo takes the signals of its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("ends", [Guard.check, Guard.stay])
def test_whatever_ends_the_watch_over_the_parts_ends_the_demo(tmp_path, ends):
    supervisor = Supervised(tmp_path, ZeroDivisionError("unforeseen"))

    def demo():
        with supervised(supervisor, "cdnow") as guard:
            for _ in range(200):
                ends(guard)
                time.sleep(0.05)

    with pytest.raises(ZeroDivisionError, match="unforeseen"):
        demo()
    assert supervisor.stopped.is_set()


@pytest.mark.usefixtures("_signals")
def test_a_demo_whose_parts_live_goes_on_until_somebody_wants_to_leave(tmp_path):
    with supervised(Supervised(tmp_path), "cdnow") as guard:
        guard.check()
        guard.asked_to_leave.set()
        guard.stay()
        with pytest.raises(Interrupted):
            guard.check()


def test_a_year_of_groceries_is_exactly_what_the_data_set_says(journey):
    assert journey.expected() == Totals(
        purchases=81_817, lines=828_850, customers=801, bought_minor=262_497_964, coupon_redemptions=1_669, ledger_sum=2_585_303
    )


def test_the_cd_shop_is_exactly_what_its_log_says():
    expected = cdnow().expected()
    assert (expected.purchases, expected.customers, expected.bought_minor) == (69_659, 23_570, 250_031_563)


def test_everything_is_in_order_of_time_and_has_an_id_of_its_own(journey):
    assert all(before.at <= after.at for before, after in zip(journey.moments, journey.moments[1:], strict=False))
    assert len({(moment.topic, moment.id) for moment in journey.moments}) == len(journey.moments)


def test_every_event_is_one_of_the_contracts(journey):
    for moment in journey.moments[::500]:
        model = PurchaseRecorded if moment.is_purchase else InteractionRecorded
        event = Event[model].model_validate_json(moment.value)
        assert (event.time, event.source, event.data.reference.encode()) == (moment.at, "complete-journey", moment.key)
        assert not moment.is_purchase or total_minor(event.data) == moment.amount_minor


def test_everyone_is_introduced_before_the_first_purchase(journey):
    assert len(journey.people) == 801
    assert all(datetime.fromisoformat(person["timestamp"]) < journey.moments[0].at for person in journey.people)
    consents = [person["traits"]["consents"][0]["granted"] for person in journey.people]
    assert 0.75 < sum(consents) / len(consents) < 0.85
    wishes = {name for name in CustomerIdentified.model_fields if name in journey.people[0]["traits"]}
    assert wishes == {"consents", "preferred_channel", "language", "time_zone"}


def test_a_shorter_history_is_a_beginning_of_the_whole(journey):
    short = complete_journey(100)
    assert short.moments == journey.moments[: len(short.moments)]
    assert short.expected().purchases == 100


def flight_of(count):
    flight = Flight()
    for number in range(count):
        flight.took_off(str(number), NOON, 1000)
    return flight


def test_only_so_many_are_under_way_at_once():
    flight = flight_of(IN_FLIGHT_MAX)
    assert not flight.wait_for_room(NOON, 0.01)
    flight.posted("0", 1500.0)
    assert flight.wait_for_room(NOON, 0.01)
    assert flight.latencies_ms == [500.0]


def test_a_second_entry_for_a_purchase_or_one_for_another_counts_nothing():
    flight = flight_of(2)
    for purchase in ("0", "0", "elsewhere"):
        flight.posted(purchase, 1500.0)
    assert (flight.under_way, flight.landed_count, len(flight.latencies_ms)) == (1, 1, 1)


def test_repeats_land_without_an_entry():
    flight = flight_of(3)
    flight.repeats_are(2)
    flight.repeats_are(1)
    assert flight.under_way == 1
    flight.all_landed()
    assert (flight.under_way, flight.landed_count, flight.latencies_ms) == (0, 3, [])


def test_nothing_is_sent_that_a_replay_would_take_for_the_far_future():
    flight = flight_of(1)
    assert flight.wait_for_room(NOON + AHEAD_MAX - timedelta(seconds=1), 0.01)
    assert not flight.wait_for_room(NOON + AHEAD_MAX, 0.01)
    flight.posted("0", 1500.0)
    assert flight.wait_for_room(NOON + AHEAD_MAX, 0.01)


def test_percentiles_are_null_where_nothing_was_measured():
    assert (percentiles([]).p50, percentiles([]).p99) == (None, None)
    assert (percentiles([float(n) for n in range(101)]).p50, percentiles([float(n) for n in range(101)]).p99) == (50.0, 99.0)


def report(**changes):
    offers = {"total": 6, "held_out": 1, "sent": 2, "failed": 0, "unknown": 0, "pending": 1, "suppressed": {"no_consent": 2}}
    totals = asdict(Totals(purchases=3, customers=2, ledger_sum=5))
    return {**totals, "ledger_balance": 5, "offers": offers, "segments": {"loyal": 1, "lost": 1}} | changes


EXPECTED = asdict(Totals(purchases=3, customers=2, ledger_sum=5))


def test_a_right_report_has_no_differences():
    assert differences(report(), EXPECTED) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"purchases": 4}, "purchases is 4 and must be 3"),
        ({"ledger_balance": 6}, "the balances add up to 6, the ledger to 5"),
        ({"parked": 1}, "parked is 1 and must be 0"),
        ({"segments": {"loyal": 2, "lost": 1}}, "the segments part 3 customers, and there are 2"),
        ({"offers": {**report()["offers"], "sent": 3}}, "the outcomes of offers add up to 7, and there are 6 offers"),
    ],
)
def test_every_difference_is_said(changes, said):
    assert differences(report(**changes), EXPECTED) == [said]


def test_every_reason_of_the_gate_has_words_that_a_shopkeeper_reads():
    gate = {Reason.EXPIRED, Reason.UNKNOWN_CUSTOMER, Reason.SUPPRESSION_LIST, Reason.NO_CONSENT, Reason.NO_ADDRESS, Reason.FREQUENCY_CAP}
    assert {reason.value for reason in gate} <= WORDS.keys()
    assert {reason.value for reason in Reason} >= WORDS.keys()
