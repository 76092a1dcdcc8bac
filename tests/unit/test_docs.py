"""The documentation is complete: every topic, setting, metric and command appears in it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest
import typer

from shared.contracts.topics import TOPICS, Topic
from shared.settings import Settings
from stack import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.relative_to(ROOT): path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
EVERYTHING = "\n".join(PAGES.values())
SERVICES = ("identity", "segmentation", "campaigns", "notifications")


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_the_map_in_the_docs_is_the_map_in_code(topic: Topic) -> None:
    rows = [line for line in PAGES[Path("docs/architecture.md")].splitlines() if line.startswith(f"| `{topic.name}` |")]
    assert len(rows) == 1
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[1] == (", ".join(f"`{model.__name__}`" for model in topic.carries) or "packed rows")
    assert cells[2:5] == [topic.key, ", ".join(topic.producers) or "–", ", ".join(topic.consumers) or "–"]


def settings_classes() -> list[type[Settings]]:
    return [Settings, *(importlib.import_module(f"services.{name}.app").SETTINGS for name in SERVICES)]


def test_every_setting_is_explained() -> None:
    missing = []
    for settings in settings_classes():
        for name, field in settings.model_fields.items():
            variable = str(field.validation_alias or f"DEAR_{name.upper()}")
            if variable not in EVERYTHING:
                missing.append(variable)
    assert missing == []


def test_every_metric_is_explained() -> None:
    names = set()
    for path in [*ROOT.glob("services/*/metrics.py"), *ROOT.glob("shared/**/*.py")]:
        names |= set(re.findall(r'"(dear_[a-z_]+)"', path.read_text()))
    assert names
    assert sorted(name for name in names if name not in EVERYTHING) == []


def commands(group: click.Group, path: str = "dear") -> list[str]:
    found = []
    for name, command in group.commands.items():
        found += commands(command, f"{path} {name}") if hasattr(command, "commands") else [f"{path} {name}"]
    return found


def test_every_command_is_explained() -> None:
    missing = []
    for command in commands(typer.main.get_command(cli.app)):
        path, _, last = command.rpartition(" ")
        if (
            command not in EVERYTHING
            and not (path in EVERYTHING and f"`{last}`" in EVERYTHING)
            and last not in PAGES[Path("docs/operations.md")]
        ):
            missing.append(command)
    assert missing == []


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
            if not target.startswith(("http", "mailto")) and not (ROOT / page.parent / target).exists():
                broken.append(f"{page}: {target}")
    assert broken == []


def test_no_page_points_outside_the_repository() -> None:
    relative = [str(page) for page, text in PAGES.items() if f"]({'../' * len(page.parts)}" in text]
    absolute = [str(page) for page, text in PAGES.items() if re.search(r"(?<![\w.])/(work|home|root|tmp)/", text)]
    assert relative == absolute == []
