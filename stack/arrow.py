"""pyarrow, which reads and writes Parquet: an extra, imported only where a file needs it."""

from __future__ import annotations

import importlib
from typing import Any

from shared.operator_error import OperatorError


class ArrowMissing(OperatorError):
    """Parquet was asked for and the extra is not installed."""

    exit_code = 2


def pyarrow(module: str = "pyarrow") -> Any:
    """The module, or one of its parts. Raises ArrowMissing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ArrowMissing("Parquet needs pyarrow: install Dear with its extra, `pip install 'dear[files]'`.") from error
