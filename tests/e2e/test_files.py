"""Last year's customers and purchases from files: exact, once however often they are imported, answered by nobody, and out again.

The tests build on each other, in the order in which they are written.
"""

import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from stack.demo.quiet import wait_until_quiet
from stack.exporting.run import ExportOptions, run_export
from stack.http import ask
from stack.importing.options import ImportOptions
from stack.importing.run import run_import
from tests.e2e.conftest import RESCORE_SECONDS

pytestmark = pytest.mark.e2e

PEOPLE = 120
NOW = datetime.now(UTC)


def ago(days):
    return (NOW - timedelta(days=days)).strftime("%Y-%m-%d %H:%M")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Regulars who stopped coming, or come less and less: all of them would be won back, had it happened just now."""
    directory, dice = tmp_path_factory.mktemp("files"), random.Random(7)
    with (directory / "customers.csv").open("w", newline="") as file:
        people = csv.writer(file)
        people.writerow(["card", "email", "name", "registered_at", "updated_at", "marketing_email_consent"])
        for number in range(PEOPLE):
            people.writerow([f"1{number:04}", f"person{number}@example.com", f"Ånn {number}", ago(700), ago(400), "yes"])
    with (directory / "sales.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["receipt_no", "store", "sold_at", "card", "sku", "qty", "line_total"])
        for number in range(PEOPLE):
            for visit in range(dice.randint(3, 12)):
                at = ago(400 - visit * 25 - dice.random())
                for line in range(dice.randint(1, 3)):
                    amount = f"{dice.randint(100, 9000) / (visit + 1):.2f}"
                    lines.writerow([f"{number}-{visit}", "12", at, f"1{number:04}", f"sku{line}", dice.randint(1, 3), amount])
        lines.writerow(["broken", "12", "1900-01-01", "00001", "sku", 1, "1.00"])
    return directory


@pytest.fixture(scope="module")
def sold(files):
    """By receipt, in minor units."""
    receipts = Counter()
    with (files / "sales.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            if line["receipt_no"] != "broken":
                receipts[line["receipt_no"]] += round(float(line["line_total"]) * 100)
    return receipts


@pytest.fixture(scope="module")
def up(live_system):
    return live_system.start()


def bring_in(files, system, **more):
    return [
        run_import(ImportOptions("customers", files / "customers.csv", source="import/crm", data_dir=system.data_dir, **more)),
        run_import(ImportOptions("purchases", files / "sales.csv", source="import/tills", data_dir=system.data_dir, **more)),
    ]


def as_of(up):
    return datetime.fromisoformat(ask(f"{up['services']['segmentation']}/v1/totals")["as_of"])


def until(is_so, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.2)


def outcomes(up):
    return ask(f"{up['services']['identity']}/v1/outcomes")


def test_a_dry_run_sends_nothing(live_system, up, files):
    assert bring_in(files, live_system, dry_run=True) == [0, 1]
    wait_until_quiet(up, 60)
    assert outcomes(up)["accepted"] == 0


def test_everything_is_imported_exactly(live_system, up, files, sold):
    assert bring_in(files, live_system) == [0, 1]
    wait_until_quiet(up, 120, also=lambda: ask(f"{up['services']['segmentation']}/v1/totals")["customers"] == PEOPLE)
    totals = ask(f"{up['services']['segmentation']}/v1/totals")
    assert (totals["purchases"], totals["bought_minor"]) == (len(sold), sum(sold.values()))
    # Of each customer two statements: since when, and who.
    assert outcomes(up)["accepted"] == 2 * PEOPLE + len(sold)
    verdicts = [json.loads(line) for line in (files / "sales.csv.verdicts.ndjson").read_text().splitlines()]
    assert Counter(each["status"] for each in verdicts)["refused"] == 1
    assert (verdicts[-1]["reason"], verdicts[-1]["column"]) == ("too_early", "sold_at")


def test_importing_again_changes_nothing(live_system, up, files, sold):
    before = ask(f"{up['services']['segmentation']}/v1/totals")
    assert bring_in(files, live_system) == [0, 1]
    events = 2 * PEOPLE + len(sold)
    wait_until_quiet(up, 120, also=lambda: outcomes(up)["repeated"] == events)
    assert outcomes(up)["accepted"] == events
    after = ask(f"{up['services']['segmentation']}/v1/totals")
    assert {name: after[name] for name in ("customers", "purchases", "bought_minor")} == {
        name: before[name] for name in ("customers", "purchases", "bought_minor")
    }
    assert ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["entries"] == len(sold)


def test_what_happened_last_year_is_answered_by_no_welcome_and_no_win_back(live_system, up, files):
    imported_at = as_of(up)
    until(lambda: as_of(up) > imported_at + timedelta(seconds=3 * RESCORE_SECONDS))
    wait_until_quiet(up, 60)
    segments = ask(f"{up['services']['segmentation']}/v1/segments")["segments"]
    assert segments["leaving"] + segments["lost"] + segments["falling_spend"] > PEOPLE / 4, segments
    report = ask(f"{up['services']['campaigns']}/v1/reports/offers")
    assert report["total"] == 0, report
    assert ask(f"{up['mail']}/messages")["received"] == 0


def test_who_registered_just_now_is_welcomed_as_ever(live_system, up, files):
    (files / "new.csv").write_text(f"email,registered_at,consent_email\nnew@example.com,{ago(0.1)},yes\n")
    assert run_import(ImportOptions("customers", files / "new.csv", data_dir=live_system.data_dir)) == 0
    until(lambda: ask(f"{up['services']['campaigns']}/v1/reports/offers")["total"] == 1)
    wait_until_quiet(up, 60)
    assert ask(f"{up['services']['campaigns']}/v1/reports/offers")["programs"]["welcome"]["total"] == 1


def test_the_export_is_what_the_services_say(live_system, up, files, sold, tmp_path):
    assert run_export(ExportOptions(tmp_path / "all", data_dir=live_system.data_dir, as_json=True)) == 0
    tables = {path.stem: pq.read_table(path) for path in (tmp_path / "all").glob("*.parquet")}
    manifest = json.loads((tmp_path / "all" / "manifest.json").read_text())
    assert {name: table.num_rows for name, table in tables.items()} == {name: each["rows"] for name, each in manifest["tables"].items()}

    customers = {row["customer_id"]: row for row in tables["customers"].to_pylist()}
    events = tables["events"].to_pylist()
    assert len(customers) == PEOPLE + 1
    purchases = {row["id"]: row["amount_minor"] for row in events if row["type"] == "dear.PurchaseRecorded"}
    assert purchases == sold
    assert len(events) == outcomes(up)["accepted"]
    assert {row["profile_id"] for row in events} == set(customers)
    assert (
        sum(row["points"] for row in tables["ledger"].to_pylist()) == ask(f"{up['services']['campaigns']}/v1/loyalty/summary")["ledger_sum"]
    )
    someone = next(id for id, row in customers.items() if "loyalty_card:10000" in row["references"])
    said = ask(f"{up['services']['identity']}/v1/customers/{someone}")
    assert customers[someone]["references"] == said["references"]
    assert json.loads(customers[someone]["traits"]) == said["traits"]
    assert customers[someone]["first_seen_at"] == datetime.fromisoformat(said["first_seen_at"])
    assert customers[someone]["consents"][0]["granted"] is True
    scores = {row["customer_id"]: row for row in tables["scores"].to_pylist()}
    told = ask(f"{up['services']['segmentation']}/v1/customers/{someone}/scores")
    assert scores.keys() == customers.keys()
    assert {name: scores[someone][name] for name in ("frequency", "bought_minor", "rfm_cell", "segments")} == {
        name: told[name] for name in ("frequency", "bought_minor", "rfm_cell", "segments")
    }


def test_the_next_export_has_what_is_new_and_nothing_else(live_system, up, files, tmp_path):
    run_export(ExportOptions(tmp_path / "first", ("events",), data_dir=live_system.data_dir))
    (files / "calls.ndjson").write_text(json.dumps({"id": 1, "at": "2025-03-01T10:00:00Z", "card": "10001", "kind": "ComplaintMade"}))
    (files / "calls.json").write_text(json.dumps({"id": "id", "time": "at", "kind": "kind", "references": {"loyalty_card": "card"}}))
    options = ImportOptions("interactions", files / "calls.ndjson", files / "calls.json", data_dir=live_system.data_dir)
    before = outcomes(up)["accepted"]
    assert run_import(options) == 0
    wait_until_quiet(up, 60, also=lambda: outcomes(up)["accepted"] == before + 1)
    run_export(ExportOptions(tmp_path / "next", ("events",), since=str(tmp_path / "first"), data_dir=live_system.data_dir))
    rows = pq.read_table(tmp_path / "next" / "events.parquet").to_pylist()
    assert [(row["id"], row["kind"], row["time"]) for row in rows] == [("1", "ComplaintMade", datetime(2025, 3, 1, 10, tzinfo=UTC))]


IN_SMALL_STEPS = "import stack.importing.run as run; run.FLUSH_EVERY = 50; from stack.cli import main; main()"


def test_an_import_that_is_killed_goes_on_and_every_row_counts_once(live_system, up, files):
    rows = 2000
    file = files / "killed.csv"
    file.write_text("receipt_no,store,sold_at,card,amount\n" + "".join(f"k{n},12,2025-03-01,2{n % 100:04},1.00\n" for n in range(rows)))
    before = outcomes(up)["accepted"]
    command = [sys.executable, "-c", IN_SMALL_STEPS, "import", "purchases", str(file), "--data-dir", str(live_system.data_dir), "--json"]
    partial = files / "killed.csv.verdicts.ndjson.partial"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        until(lambda: partial.exists() and len(partial.read_bytes().splitlines()) >= 300)
        running.kill()
    assert running.returncode == -signal.SIGKILL

    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    answer = json.loads(ended.stdout)
    assert 300 <= answer["resumed_after"] < rows
    assert answer["events"] == rows - answer["resumed_after"]
    verdicts = [json.loads(line) for line in (files / "killed.csv.verdicts.ndjson").read_text().splitlines()]
    assert [(each["row"], each["status"]) for each in verdicts] == [(number, "accepted") for number in range(1, rows + 1)]
    wait_until_quiet(up, 120, also=lambda: outcomes(up)["accepted"] >= before + rows)
    assert outcomes(up)["accepted"] == before + rows
