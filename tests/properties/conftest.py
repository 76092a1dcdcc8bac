"""What lies here is marked, so that `make test-properties` can choose it beside the properties of the unit part."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Items of the whole run come here, not only those of this directory."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.properties)
