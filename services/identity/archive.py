"""The archive of an access request: everything that is known, as JSON to take elsewhere and as CSV to look at."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.identity.domain.customers import CustomerState, as_published, moment, oldest, references_in_use, retired_references, seen_as
from services.identity.domain.events import SEPARATOR
from services.identity.domain.privacy import Request
from services.identity.store import customers, merges, timeline

Records = Sequence[Mapping[str, Any]]
OWN = ("events", "consents", "merges")
"""What is identity's in it."""
_README = """This archive holds everything that is known about you. Each kind of thing is there twice: as JSON, for other programs,
and as CSV, which any spreadsheet opens. profile: who you are, and what you allowed. consents: every time you allowed or refused
something. events: what you bought and did. merges: when records were taken for yours, or were not. Everything else: what was
derived from it, offered and sent.
Made for request {request_id} on {at}.
"""


def build(request: Request, consents: Records, answered: Iterable[Mapping[str, Any]], at: datetime) -> tuple[bytes, dict[str, int]]:
    """The archive as zip, and how many records of each kind it has."""
    tables: dict[str, list[Mapping[str, Any]]] = {"events": _events(request.members), "consents": [*consents]}
    for answer in answered:
        for text in answer["records"]:
            record = json.loads(text)
            tables.setdefault(f"{answer['service']}_{record.pop('kind')}", []).append(record)
    told = merges.about(request.members)
    if told:
        tables["merges"] = [_decision(each) for each in told]
    states = customers.load(request.members)
    home = oldest(states.values()) if states else None
    state = seen_as(home.customer_id, home.version, request.members, states) if home else None
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:

        def write(name: str, text: str) -> None:
            # The date is the request's, so that the same request makes the same archive.
            archive.writestr(zipfile.ZipInfo(name, request.received_at.timetuple()[:6]), text, zipfile.ZIP_DEFLATED)

        write("README.txt", _README.format(request_id=request.request_id, at=at.date().isoformat()))
        if state is not None:
            rows = _profile_rows(state)
            more = {"retired_references": retired_references(state), "said": rows}
            profile = {**as_published(state).model_dump(mode="json"), **more}
            write("profile.json", json.dumps(profile, indent=2, ensure_ascii=False))
            write("profile.csv", _csv(rows))
        for name, records in sorted(tables.items()):
            write(f"{name}.json", json.dumps(records, indent=2, ensure_ascii=False))
            write(f"{name}.csv", _csv(records))
    return out.getvalue(), {name: len(records) for name, records in tables.items()}


def _events(profiles: Iterable[str]) -> list[Mapping[str, Any]]:
    """What happened, oldest first."""
    found = [each for page in timeline.of_profiles(profiles) for each in page]
    return [json.loads(bytes(each["event"])) for each in sorted(found, key=lambda each: (each["at"], each["_id"]))]


def _decision(kept: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the profiles: they may be somebody else's since."""
    source, _, event = kept["event"].partition(SEPARATOR)
    shown = {name: kept[name] for name in ("action", "rule", "kinds", "by", "evidence")}
    return {**shown, "source": source, "event": event, "decided_at": kept["decided_at"].isoformat()}


def _profile_rows(state: CustomerState) -> list[Mapping[str, Any]]:
    """References, and each value with its source and time; of decision makers and assets one is named by kind, id and field."""
    rows: list[Mapping[str, Any]] = [{"what": "reference", "value": each} for each in references_in_use(state)]
    for each in retired_references(state):
        rows.append({"what": "retired reference", "value": each, "said_at": moment(state.called.retired[each]).isoformat()})
    details = {" ".join(of): said for of, said in state.details.items()}
    for name, said in (*sorted({**state.traits, **state.wishes}.items()), *sorted(details.items())):
        source = said.by.partition(SEPARATOR)[0]
        rows.append({"what": name, "value": said.value, "said_at": moment(said.at).isoformat(), "said_by": source})
    return rows


def _csv(records: Iterable[Mapping[str, Any]]) -> str:
    """A table with a column for each field that any of the records has; what is nested has its path for a name."""
    rows = [dict(_flat(record)) for record in records]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    # Spreadsheets take a table for UTF-8 only where it says so.
    return "\ufeff" + out.getvalue()


def _flat(record: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        elif isinstance(value, list):
            yield f"{path}{name}", json.dumps(value, ensure_ascii=False)
        else:
            yield f"{path}{name}", value


def _safe(value: object) -> object:
    """A spreadsheet runs what begins like a formula; somebody else may have written it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
