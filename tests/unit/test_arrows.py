"""The contracts of the arrows leave nothing out: what is added later is forbidden where it does not belong, too."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = {each["name"]: each for each in PROJECT["tool"]["importlinter"]["contracts"]}
FOR_THE_DOMAIN = {"numpy", "scipy"}


def test_the_domain_may_import_no_dependency_but_numpy_and_scipy() -> None:
    named = {re.split(r"[<>=\[]", each)[0] for each in PROJECT["project"]["dependencies"]}
    modules = {module for module, owners in packages_distributions().items() if named & set(owners) and not module.startswith("_")}
    assert modules >= {"faust", "msgspec", "pydantic"}
    forbidden = CONTRACTS["The domain touches neither I/O nor frameworks"]["forbidden_modules"]
    assert modules - FOR_THE_DOMAIN - set(forbidden) == set()


def test_the_domain_may_import_nothing_of_shared_but_the_contracts() -> None:
    modules = {f"shared.{path.stem}" for path in (ROOT / "shared").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    forbidden = CONTRACTS["The domain touches neither I/O nor frameworks"]["forbidden_modules"]
    assert modules - {"shared.__init__", "shared.contracts"} - set(forbidden) == set()


def test_every_service_is_under_the_same_contracts() -> None:
    services = {path.parent.name for path in (ROOT / "services").glob("*/domain")}
    assert {f"services.{name}.domain" for name in services} == set(
        CONTRACTS["The domain touches neither I/O nor frameworks"]["source_modules"]
    )
    assert {f"services.{name}" for name in services} == set(CONTRACTS["A service never imports another service"]["modules"])
