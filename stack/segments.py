"""`dear segments`: rules of one's own, from a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from rich.console import Console
from rich.table import Table

from shared.operator_error import OperatorError
from stack.data_directory import DataDirectory
from stack.http import ask


def list_segments(data_dir: Path, as_json: bool) -> int:
    """Print all segments, how many customers are in them, and what they are."""
    url = _url(data_dir)
    counts, rules = ask(f"{url}/v1/segments")["segments"], ask(f"{url}/v1/segments/definitions")["segments"]
    if as_json:
        sys.stdout.write(json.dumps([{**rule, "customers": counts.get(rule["name"], 0)} for rule in rules]) + "\n")
        return 0
    table = Table("segment", "customers", "", "about", header_style="dim")
    for rule in rules:
        table.add_row(rule["name"], f"{counts.get(rule['name'], 0):,}", "ships" if rule["shipped"] else "own", rule.get("about", ""))
    Console().print(table)
    return 0


def apply_segments(file: Path, data_dir: Path) -> int:
    """Write every segment of a file; 1 where one was refused, which does not stand in the others' way."""
    url, refused = _url(data_dir), 0
    for name, definition in read_segments(file).items():
        try:
            ask(f"{url}/v1/segments/{quote(name, safe='')}", definition, method="PUT")
        except OperatorError as problem:
            refused += 1
            sys.stderr.write(f"{name}: refused: {problem}\n")
        else:
            sys.stdout.write(f"{name}: written; everyone is judged by it now\n")
    return 1 if refused else 0


def try_segments(file: Path, data_dir: Path) -> int:
    """Say whom each segment of a file would hold, and change nothing."""
    url = _url(data_dir)
    table = Table("segment", "customers", "expected value", "of it at risk", "most of them also", header_style="dim")
    for name, definition in read_segments(file).items():
        found = ask(f"{url}/v1/segments/what-if", definition)
        also = ", ".join(list(found["segments"])[:3])
        worth, at_risk = (f"{found[key] / 100:,.2f}" for key in ("expected_value_minor", "value_at_risk_minor"))
        table.add_row(name, f"{found['customers']:,}", worth, at_risk, also)
    Console().print(table)
    return 0


def delete_segment(name: str, data_dir: Path) -> int:
    """Everyone leaves a segment of one's own."""
    ask(f"{_url(data_dir)}/v1/segments/{quote(name, safe='')}", method="DELETE")
    sys.stdout.write(f"{name}: deleted; everyone leaves it now\n")
    return 0


def read_segments(file: Path) -> dict[str, dict[str, Any]]:
    """The definitions of a file, by name. Raises OperatorError."""
    try:
        found = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise OperatorError(f"{file} is neither YAML nor JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) and isinstance(each, dict) for name, each in found.items()):
        raise OperatorError(
            f"{file}: a mapping from names of segments to their definitions is expected, such as `regulars: {{enters: ...}}`"
        )
    return found


def _url(data_dir: Path) -> str:
    return str(DataDirectory(data_dir).read_up()["services"]["segmentation"])
