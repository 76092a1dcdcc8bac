"""Reading identity's timeline: how a reader of customer-events-v1 catches up when its log, or its own state, was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import httpx
import msgspec

from shared.access.learning import identity_client
from shared.streaming.errors import Unavailable
from shared.streaming.records import Position, StoredRecord, origin_header

RECORDS_AT_ONCE = 1000
_TIMEOUT = httpx.Timeout(10.0, read=60.0)


class _First(msgspec.Struct):
    committed: list[tuple[str, int, int]]


class _Line(msgspec.Struct):
    key: str = ""
    origin: tuple[str, int, int, int] | None = None
    value: msgspec.Raw = msgspec.Raw()
    end: int | None = None


_first = msgspec.json.Decoder(_First)
_line = msgspec.json.Decoder(_Line)


class Timeline:
    """What identity holds of one partition beyond what the reader has. Iterate it once, to its end.

    Lists of records come in the order of each origin log. Only when iteration ended without an error is everything up to
    `committed` read. Raises Unavailable at any point, also in the middle.
    """

    def __init__(self, client: httpx.AsyncClient, response: httpx.Response, lines: AsyncIterator[bytes], committed: tuple[Position, ...]):
        self._client, self._response, self._lines = client, response, lines
        self.committed = committed

    async def __aiter__(self) -> AsyncIterator[Sequence[StoredRecord]]:
        try:
            async for records in self._records():
                yield records
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise Unavailable(f"identity's timeline broke off: {error!r}") from error
        finally:
            await self.close()

    async def _records(self) -> AsyncIterator[list[StoredRecord]]:
        records: list[StoredRecord] = []
        count = 0
        async for raw in self._lines:
            line = _line.decode(raw)
            if line.origin is None:
                if records:
                    yield records
                _check_whole(line.end, count)
                return
            records.append(_record(line, line.origin))
            count += 1
            if len(records) == RECORDS_AT_ONCE:
                yield records
                records = []
        raise Unavailable("identity's timeline broke off: its last line is missing")

    async def close(self) -> None:
        """Let go of the connection; done by itself at the end of iteration."""
        await self._response.aclose()
        await self._client.aclose()


def _record(line: _Line, origin: tuple[str, int, int, int]) -> StoredRecord:
    topic_id, partition, offset, appended_ms = origin
    header = origin_header(Position(topic_id, partition, offset), appended_ms)
    return StoredRecord(-1, appended_ms, line.key.encode(), bytes(line.value), (header,))


def _check_whole(said: int | None, count: int) -> None:
    if said != count:
        raise Unavailable(f"identity's timeline broke off: {count} events of {said}")


async def read_timeline(
    identity_url: str,
    partition: int,
    after: Iterable[Position] = (),
    transport: httpx.AsyncBaseTransport | None = None,
    credential: str | None = None,
) -> Timeline:
    """Ask identity for the events of one partition of customer-events-v1 that `after` does not cover. Raises Unavailable."""
    client = identity_client(identity_url, _TIMEOUT, credential, transport)
    asked: dict[str, Any] = {"partition": partition, "after": [[each.topic_id, each.partition, each.offset] for each in after]}
    try:
        response = await client.send(client.build_request("POST", "/v1/timeline/read", json=asked), stream=True)
        if response.status_code != httpx.codes.OK:
            raise Unavailable(f"identity's timeline: {response.status_code} {(await response.aread())[:500].decode(errors='replace')}")
        lines = _lines(response)
        first = _first.decode(await anext(lines, b""))
    except (httpx.HTTPError, msgspec.MsgspecError) as error:
        await client.aclose()
        raise Unavailable(f"identity's timeline: {error!r}") from error
    except Unavailable:
        await client.aclose()
        raise
    return Timeline(client, response, lines, tuple(Position(*each) for each in first.committed))


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Whole lines of bytes; what follows the last line end was cut off."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
