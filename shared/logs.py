"""Logs: JSON lines for machines, short lines for a terminal, never a customer's data."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

QUIET = {"aiokafka": "CRITICAL", "kafka": "CRITICAL", "uvicorn": "CRITICAL"} | dict.fromkeys(
    ("faust", "mode", "httpx", "httpcore", "pymongo", "asyncio"), "ERROR"
)
"""Libraries that log their own business, and sometimes the records in hand. The Kafka clients call each attempt in an outage an error."""


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the exception where there is one."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logs(service: str, level: str = "INFO") -> None:
    """Log to standard error; the libraries below only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    short = logging.Formatter(f"%(asctime)s {service} %(levelname).1s %(message)s", "%H:%M:%S")
    handler.setFormatter(short if sys.stderr.isatty() else JsonLines(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, lowest in QUIET.items():
        logging.getLogger(name).setLevel(lowest)


def where(failure: BaseException) -> str:
    """The kind of a failure and where it arose; not its message, which may quote a customer's data."""
    frames = traceback.extract_tb(failure.__traceback__)[-4:]
    return f"{type(failure).__name__} at {' < '.join(f'{Path(each.filename).name}:{each.lineno} {each.name}' for each in reversed(frames))}"
