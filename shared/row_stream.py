"""Many rows as one answer: lines of JSON, of which the last says how many they were, so that a cut-off answer is known for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from fastapi.responses import StreamingResponse

from shared.mongo import in_store

MEDIA_TYPE = "application/x-ndjson"
_encode = msgspec.json.Encoder().encode


def row_stream(pages: Callable[[], Iterator[Sequence[Any]]], head: Mapping[str, Any] | None = None) -> StreamingResponse:
    """First the head, then every row, then `{"end": how many}`. Pages are asked for in the store's threads, as fast as they are read."""
    return StreamingResponse(_lines(pages, head or {}), media_type=MEDIA_TYPE)


async def _lines(pages: Callable[[], Iterator[Sequence[Any]]], head: Mapping[str, Any]) -> AsyncIterator[bytes]:
    yield _encode({"head": head}) + b"\n"
    count = 0
    found = await in_store(pages)
    while (page := await in_store(next, found, None)) is not None:
        yield b"".join(_encode(row) + b"\n" for row in page)
        count += len(page)
    yield _encode({"end": count}) + b"\n"
