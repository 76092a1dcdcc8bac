"""`dear demo` as it is run: its report on disk, every worker killed on the way, twice in one data directory, and with the other shop."""

import json
import signal
from dataclasses import asdict

import pytest

from stack.apache_kafka import ApacheKafka
from stack.demo.history import cdnow, complete_journey
from stack.demo.report import TOTAL_KEYS
from stack.demo.run import DemoOptions, OtherData, run_demo
from stack.ports import SERVICES
from stack.process import free_port, free_port_base
from tests.conftest import TEST_BROKER

pytestmark = pytest.mark.e2e
EXACT = (*TOTAL_KEYS, "parked", "ledger_sum", "ledger_balance")


@pytest.fixture(autouse=True)
def _surroundings(tmp_path_factory):
    """The broker that is asked for, one for each test: two shops share none. And the signals of this process, which a demo takes."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI"):
            patch.delenv(name, raising=False)
        kafka = ApacheKafka(tmp_path_factory.mktemp("kafka"), free_port()) if TEST_BROKER == "kafka" else None
        try:
            if kafka is not None:
                kafka.start()
                patch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
            yield
        finally:
            if kafka is not None:
                kafka.stop()
            for number, handler in signals.items():
                signal.signal(number, handler)


def demo(data_dir, **options):
    """Run it, and read what it wrote; the exact totals of its report."""
    code = run_demo(DemoOptions(data_dir, port_base=free_port_base(), **options))
    report = json.loads((data_dir / "report.json").read_text())
    assert code == 0, report
    return {name: report[name] for name in EXACT}


def test_every_total_is_the_same_with_every_worker_killed_and_run_twice_in_one_data_directory(tmp_path, capsys):
    baskets = 400
    expected = asdict(complete_journey(baskets).expected())
    first = demo(tmp_path, limit=baskets, kill_workers=True)
    assert {name: first[name] for name in expected} == expected
    assert first["ledger_balance"] == first["ledger_sum"]
    said = capsys.readouterr()
    assert all(f"killed {name} " in said.out + said.err for name in SERVICES)

    # Another broker log, other topic ids, and everything sent again.
    second = demo(tmp_path, limit=baskets)
    assert second == first

    with pytest.raises(OtherData, match="complete-journey"):
        demo(tmp_path, data="cdnow", limit=10)


def test_the_cd_shop_is_replayed_exactly(tmp_path):
    moments = 700
    expected = asdict(cdnow(moments).expected())
    found = demo(tmp_path, data="cdnow", limit=moments)
    assert {name: found[name] for name in expected} == expected
