"""An export is whole or not there, and its columns are what the services say."""

import json
import threading
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.campaigns.api.loyalty import Entry
from services.campaigns.api.offers import OfferView
from shared.contracts.customers import CustomerPublished
from shared.contracts.scores import Scores
from stack.exporting import writing
from stack.exporting.run import BadExport, ExportOptions, read_since, run_export
from stack.exporting.tables import TABLES
from stack.http import ServiceAway

BY_NAME = {table.name: table for table in TABLES}
ENTRY = {
    "id": "e1", "profile_id": "p", "kind": "earned", "points": 12, "amount_minor": 1250, "program": "points", "program_version": 1,
    "cause_source": "till", "cause_id": "1", "occurred_at": "2026-03-01T12:00:00Z", "posted_at": "2026-03-01T12:00:00.123456Z",
}  # fmt: skip


@pytest.fixture
def service():
    """Answers with what `answers` has for the path; `asked` are the paths with their queries and bodies."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            running.asked.append((self.path, json.loads(body) if body else None))
            self.send_response(200)
            self.end_headers()
            for line in running.answers[self.path.partition("?")[0]]:
                self.wfile.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")

        do_POST = do_GET  # noqa: N815 - the name is the library's

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.answers, running.asked = {}, []
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def whole(*rows, **head):
    return [{"head": head}, *rows, {"end": len(rows)}]


def export(service, to, *only, since=None):
    urls = dict.fromkeys(("identity", "segmentation", "campaigns"), service.url)
    return run_export(ExportOptions(to, only, since, as_json=True, urls=urls))


@pytest.mark.parametrize(
    ("table", "model", "also"),
    [
        ("customers", CustomerPublished, {"lead_source", "decision_makers", "assets"}),
        ("scores", Scores, {"customer_id", "as_of", "segments", "purchases", "bought_minor", "refunded_minor"}),
        ("offers", OfferView, set()),
        ("ledger", Entry, set()),
    ],
)
def test_a_table_has_all_that_its_service_says(table, model, also):
    # Who was merged into another customer has no row.
    assert set(BY_NAME[table].columns) == set(model.model_fields) - {"merged_into"} | also


def test_rows_come_back_as_they_were_with_types_and_row_groups(service, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(writing, "ROWS_AT_ONCE", 2)
    service.answers["/v1/export/ledger"] = whole(*({**ENTRY, "id": f"e{number}"} for number in range(5)))
    assert export(service, tmp_path, "ledger") == 0
    file = pq.ParquetFile(tmp_path / "ledger.parquet")
    assert file.num_row_groups == 3
    assert file.schema_arrow.field("posted_at").type == pa.timestamp("us", "UTC")
    assert file.schema_arrow.field("points").type == pa.int64()
    assert not file.schema_arrow.field("id").nullable
    row = file.read().to_pylist()[4]
    assert (row["id"], row["points"], row["posted_at"]) == ("e4", 12, datetime(2026, 3, 1, 12, 0, 0, 123456, UTC))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest == json.loads(capsys.readouterr().out)
    assert manifest["tables"]["ledger"] == {"file": "ledger.parquet", "rows": 5, "key": ["id"], "increment": True}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.parquet", "manifest.json"]


def test_an_event_has_its_amount_and_its_lines_beside_each_other(service, tmp_path):
    lines = [{"sku": "a", "quantity": 2, "amount_minor": 198, "category": "FRUIT"}, {"sku": "b", "quantity": 1, "amount_minor": 249}]
    head = {"specversion": "1.0", "source": "till", "time": "2026-03-01T12:00:00Z"}
    sale = {
        **head,
        "id": "1",
        "type": "dear.PurchaseRecorded",
        "data": {"reference": None, "store": "s", "currency": "USD", "lines": lines},
    }
    said = {**head, "id": "2", "type": "dear.CustomerIdentified", "data": {"references": ["user:1"], "traits": {"size": 3}, "consents": []}}
    rows = [{"profile_id": None, "event": sale}, {"profile_id": "p", "event": said}]
    service.answers["/v1/export/events"] = whole(*rows, positions=[["t", 0, 7]])
    export(service, tmp_path, "events")
    sold, identified = pq.read_table(tmp_path / "events.parquet").to_pylist()
    assert (sold["amount_minor"], sold["profile_id"], sold["lines"][0]["category"]) == (447, None, "FRUIT")
    assert (sold["lines"][1]["category"], sold["traits"]) == (None, None)
    assert (identified["traits"], identified["lines"], identified["consents"]) == ('{"size": 3}', None, [])


def test_what_breaks_off_leaves_the_last_export_as_it_was(service, tmp_path):
    service.answers["/v1/export/ledger"] = whole(ENTRY)
    export(service, tmp_path, "ledger")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for cut_off in ([{"head": {}}, ENTRY], [{"head": {}}, ENTRY, b'{"id": "e'], [{"head": {}}, ENTRY, {"end": 2}], []):
        service.answers["/v1/export/ledger"] = cut_off
        with pytest.raises(ServiceAway, match="broke off"):
            export(service, tmp_path, "ledger")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_increment_goes_on_where_the_export_before_was(service, tmp_path):
    service.answers |= {
        "/v1/export/events": whole(positions=[["topic", 3, 17]]),
        "/v1/export/ledger": whole(),
        "/v1/export/customers": whole(),
    }
    export(service, tmp_path / "first", "events", "ledger", "customers")
    as_of = datetime.fromisoformat(json.loads((tmp_path / "first" / "manifest.json").read_text())["as_of"])
    service.asked.clear()
    export(service, tmp_path / "next", "events", "ledger", "customers", since=str(tmp_path / "first"))
    asked = {path.partition("?")[0]: (path, body) for path, body in service.asked}
    assert asked["/v1/export/events"][1] == {"after": [["topic", 3, 17]], "since": None}
    assert asked["/v1/export/customers"] == ("/v1/export/customers", None)
    assert read_since(str(tmp_path / "first")).time == as_of - timedelta(minutes=1)
    assert asked["/v1/export/ledger"][0].startswith("/v1/export/ledger?since=20")


def test_since_is_a_day_or_a_time_with_its_zone():
    assert read_since("2026-03-01").time == datetime(2026, 3, 1, tzinfo=UTC)
    assert read_since("2026-03-01T09:00:00+07:00").time == datetime(2026, 3, 1, 2, tzinfo=UTC)
    for wrong in ("yesterday", "2026-03-01T09:00:00"):
        with pytest.raises(BadExport, match="--since"):
            read_since(wrong)


def test_a_table_that_there_is_not_is_refused(service, tmp_path):
    with pytest.raises(BadExport, match="there is no clients; choose of customers"):
        export(service, tmp_path, "clients")


def test_days_are_days():
    row = BY_NAME["scores"].row({"customer_id": "c", "next_purchase_on": "2026-03-05", "as_of": None})
    assert row["next_purchase_on"] == date(2026, 3, 5)
