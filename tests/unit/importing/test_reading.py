"""Every format gives the same rows, whatever stands in the file, and says what it cannot read."""

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stack.importing.json_tables as json_tables
from stack.arrow import ArrowMissing
from stack.importing.csv_tables import encoding_of
from stack.importing.mapping import FileLayout, MappingError
from stack.importing.reading import open_table
from tests.unit.importing.desk import SALES, Desk, told


def rows(path, **layout):
    return list(open_table(path, FileLayout(**layout)).rows())


def read_all(path):
    table = open_table(path, FileLayout())
    return table.columns(), list(table.rows())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(tmp_path, delimiter):
    path = tmp_path / "a.csv"
    path.write_text(delimiter.join(("a b", "c", "d")) + "\n" + delimiter.join(("1", '"x\ny"', "3")) + "\n\n")
    (row,) = rows(path)
    assert row.values == {"a b": "1", "c": "x\ny", "d": "3"}
    assert (row.number, row.line) == (1, 3)


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", b"\xef\xbb\xbf"), ("utf-8", b""), ("cp874", b""), ("latin-1", b"")])
def test_files_are_read_in_their_encoding(tmp_path, encoding, mark):
    word = {"cp874": "เชียงใหม่", "latin-1": "Café"}.get(encoding, "Café เชียงใหม่")
    path = tmp_path / "a.csv"
    path.write_bytes(mark + f"city\n{word}\n".encode(encoding))
    assert rows(path, encoding=encoding)[0].values == {"city": word}


@pytest.mark.parametrize("name", ["a.csv.gz", "a.ndjson.gz"])
def test_packed_files_are_read_as_they_are(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"a,b\n1,2\n" if "csv" in name else b'{"a": "1", "b": "2"}\n', mtime=0))
    assert [row.values for row in rows(path)] == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n1,2\n", "it must name the columns"),
        ("a.csv", b",,\n1,2,3\n", "the first line must name the columns"),
        ("a.csv", b"a,b,a\n", "'a' names more than one column"),
        ("a.csv", b"caf\xe9,b\n", "not text in utf-8: set file.encoding in the mapping, such as cp1252"),
        ("a.csv", "a,b\n".encode("utf-16"), 'set file.encoding = "utf-16" in the mapping'),
        ("a.csv", b"a\0b,c\n", "not text in utf-8"),
        ("a.csv", b"PK\x03\x04", "is an Excel workbook: save the sheet as CSV"),
        ("a.csv", b"PAR1", "is Parquet: name it .parquet"),
        ("a.csv", gzip.compress(b"a,b\n", mtime=0), "is packed by gzip: add .gz"),
        ("a.csv.gz", b"a,b\n", "is not packed by gzip"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-12], "is damaged or cut off"),
        ("a.ndjson.gz", b'{"a": 1}\n', "is not packed by gzip"),
        ("a.ndjson", b"[]\n", "no line among the first 100 is a JSON object; an object a line is expected, as `jq"),
        ("a.parquet", b"PAR1", "no Parquet file"),
        ("a.xlsx", b"", "so that its format is known"),
        ("a.xlsx", b"PK\x03\x04", "is an Excel workbook"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_says_what_to_change(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MappingError, match=says):
        read_all(tmp_path / name)


def test_a_file_that_is_not_there_is_no_directory_either(tmp_path):
    with pytest.raises(MappingError, match="there is no file"):
        open_table(tmp_path / "a.csv", FileLayout())
    with pytest.raises(MappingError, match="is a directory"):
        open_table(tmp_path, FileLayout())


def test_an_encoding_that_does_not_fit_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(MappingError, match=r"is not utf-16 .* set file.encoding in the mapping"):
        rows(tmp_path / "a.csv", encoding="utf-16")
    with pytest.raises(MappingError, match="utf-99 is no encoding"):
        rows(tmp_path / "a.csv", encoding="utf-99")


def test_a_file_that_breaks_off_within_its_rows_is_said_to(tmp_path):
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(50_000)))
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(MappingError, match="is damaged or cut off"):
        rows(tmp_path / "a.csv.gz")


def test_what_excel_writes_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("sep=;\r\na;b\r\n1,5;x\r\n".encode("utf-8-sig"))
    (row,) = rows(path)
    assert (row.values, row.number, row.line) == ({"a": "1,5", "b": "x"}, 1, 3)
    path.write_bytes("a\tb\r\nd\u00e9j\u00e0\tx\r\n".encode("utf-16"))
    assert encoding_of(path) == "utf-16"
    assert rows(path, encoding="utf-16")[0].values == {"a": "d\u00e9j\u00e0", "b": "x"}


def test_columns_without_a_name_are_passed_over(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",a,b,,\n0,1,2,,\n")
    assert open_table(path, FileLayout()).columns() == ("a", "b")
    assert rows(path)[0].values == {"a": "1", "b": "2"}


def test_a_mark_before_the_first_object_is_no_part_of_it(tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n')
    assert [row.values for row in rows(path)] == [{"a": 1}, {"a": 2}]


def test_an_unclosed_quote_costs_its_rows_and_no_more(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n3,"x' + "y" * 140_000 + "\n4,5\n")
    read = rows(path)
    assert [row.fault is None for row in (read[0], read[1])] == [True, False]


def test_a_line_longer_than_any_event_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(json_tables, "LONGEST_LINE_BYTES", 100)
    path = tmp_path / "a.ndjson"
    path.write_text(json.dumps({"a": "x" * 1000}) + "\n" + json.dumps({"a": "y"}) + "\n")
    read = rows(path)
    assert read[0].fault.reason == "malformed_row"
    assert (read[1].values, read[1].number, read[1].line) == ({"a": "y"}, 2, 2)


def test_json_numbers_are_decimals(tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_text('{"a": 19.99, "b": 3}\n{"a": NaN}\n')
    read = rows(path)
    assert read[0].values == {"a": Decimal("19.99"), "b": 3}
    assert read[1].fault.reason == "malformed_row"


SCHEMA = pa.schema(
    {"receipt": pa.int64(), "at": pa.timestamp("ns"), "card": pa.float64(), "sku": pa.string(), "amount": pa.decimal128(12, 2)}
)


def parquet(path, **columns):
    at = datetime(2025, 3, 1, 10, tzinfo=UTC).replace(tzinfo=None)
    size = len(next(iter(columns.values())))
    given = {
        "receipt": list(range(size)),
        "at": [at] * size,
        "card": [42.0] * size,
        "sku": ["pear"] * size,
        "amount": [Decimal("1.25")] * size,
    }
    pq.write_table(pa.table({**given, **columns}, schema=SCHEMA), path, row_group_size=2)
    return path


def test_parquet_keeps_its_types_and_its_row_groups(tmp_path):
    desk = Desk(tmp_path)
    file = parquet(tmp_path / "a.parquet", card=[42.0, None, 43.0, 44.0, 45.0])
    progress = []
    assert len(list(open_table(file, FileLayout()).rows(progress.append))) == 5
    assert progress[-1] == open_table(file, FileLayout()).size == 5
    assert [each["status"] for each in desk.bring(file, "purchases", SALES)] == ["accepted"] * 5
    assert [event["data"]["reference"] for event in desk.out.events][:3] == ["loyalty_card:42", None, "loyalty_card:43"]
    assert desk.out.events[0]["time"] == "2025-03-01T10:00:00+00:00"
    assert desk.out.events[0]["data"]["lines"][0]["amount_minor"] == 125


def test_floats_that_are_no_amount_are_refused_and_others_are_what_they_are_written_as(tmp_path):
    desk = Desk(tmp_path)
    table = pa.table({"receipt": [1, 2], "at": ["2025-03-01"] * 2, "card": ["1", "2"], "sku": ["a", "b"], "amount": [19.99, 0.1 + 0.2]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert told(desk.bring(tmp_path / "a.parquet", "purchases", SALES)) == [(1, "accepted", None), (2, "not_an_amount", "amount")]
    assert desk.out.events[0]["data"]["lines"][0]["amount_minor"] == 1999


def test_bytes_that_are_no_text_cost_one_row_of_parquet(tmp_path):
    broken = pa.array([b"pear", b"p\xe9ar", b"plum"]).view(pa.string())
    desk = Desk(tmp_path)
    table = pa.table({"receipt": [1, 2, 3], "at": ["2025-03-01"] * 3, "card": ["1"] * 3, "sku": broken, "amount": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    verdicts = desk.bring(tmp_path / "a.parquet", "purchases", {**SALES, "rows": "purchase"})
    assert told(verdicts) == [(1, "accepted", None), (2, "not_utf8", "sku"), (3, "accepted", None)]


def test_without_the_extra_parquet_says_how_to_install_it(tmp_path, monkeypatch):
    file = parquet(tmp_path / "a.parquet", receipt=[1])

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("stack.arrow.importlib.import_module", missing)
    with pytest.raises(ArrowMissing, match=r"pip install 'dear\[files\]'"):
        rows(file)
