"""One connection per service database, a small pool of threads for it, and its errors by our names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import mongoengine
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    CursorNotFound,
    ExecutionTimeout,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from shared.clock import BEGINNING
from shared.streaming.errors import Unavailable

P = ParamSpec("P")
R = TypeVar("R")

_AWAY = (AutoReconnect, ConnectionFailure, CursorNotFound, ExecutionTimeout, WriteConcernError, WaitQueueTimeoutError)
"""A write that a majority did not confirm may be rolled back: it counts as not written, and is written again. A cursor that was left
alone for long is gone, and what it read is read again."""
_DUPLICATE_KEY = 11000
LOOKUP_SIZE = 25
"""Keys a lookup: the embedded database compares every document that it found with every key asked for."""
PAGE_ROWS = 500
"""Documents at a time, where all are read."""
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="store")


def connect(database: str, uri: str) -> MongoClient[Any]:
    """Connect lazily to a service's own database, under its name as mongoengine's alias."""
    client: MongoClient[Any] = mongoengine.connect(
        db=database,
        alias=database,
        host=uri,
        tz_aware=True,
        tzinfo=UTC,
        w="majority",
        # Every write of ours may be repeated, and the stream loop repeats it; remembering each would take a quarter of the
        # embedded database's time.
        retryWrites=False,
        uuidRepresentation="standard",
        serverSelectionTimeoutMS=3000,
        socketTimeoutMS=30000,
    )
    return client


def disconnect(database: str) -> None:
    """Forget a connection, so that a test can make another."""
    mongoengine.disconnect(alias=database)


def collection_named(database: str, name: str) -> Collection[Any]:
    """A collection of a service's own database that is no document's."""
    collection: Collection[Any] = mongoengine.get_db(alias=database)[name]
    return collection


async def in_store(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a store call in the pool of threads. Raises Unavailable where the database is away."""
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, partial(call, *args, **kwargs))
    except _AWAY as error:
        raise Unavailable(f"database: {error}") from error


def insert_new(collection: Collection[Any], documents: Sequence[dict[str, Any]]) -> set[int]:
    """Insert what is not there yet; returns the positions of those whose key was taken. Raises Unavailable and BulkWriteError."""
    return refused_as_duplicates(lambda: collection.insert_many(documents, ordered=False)) if documents else set()


def find_by(
    collection: Collection[Any], keys: Iterable[str], projection: Mapping[str, int] | None = None, *, field: str = "_id", **also: Any
) -> Iterator[dict[str, Any]]:
    """The documents whose indexed field is one of the keys, and that satisfy `also`; in no order.

    A document whose field holds several of them may come twice.
    """
    for some in portions(keys):
        yield from collection.find({field: {"$in": some}, **also}, projection)


def portions(keys: Iterable[str]) -> Iterator[list[str]]:
    """The keys, as many at a time as one condition may name."""
    remaining = iter(keys)
    while some := list(islice(remaining, LOOKUP_SIZE)):
        yield some


def in_pages(rows: Iterable[dict[str, Any]], size: int = PAGE_ROWS) -> Iterator[list[dict[str, Any]]]:
    """The rows, so many at a time."""
    page: list[dict[str, Any]] = []
    for row in rows:
        page.append(row)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def refused_as_duplicates(write: Callable[[], object]) -> set[int]:
    """Run an unordered bulk write; returns the positions refused because a key was taken. Raises Unavailable and BulkWriteError."""
    try:
        write()
    except BulkWriteError as error:
        details = error.details or {}
        faults = details.get("writeErrors", [])
        if any(fault["code"] != _DUPLICATE_KEY for fault in faults):
            raise
        if details.get("writeConcernErrors"):
            raise Unavailable(f"database: {details['writeConcernErrors']}") from error
        return {fault["index"] for fault in faults}
    return set()


def exchange_clock(database: str, at: datetime) -> datetime:
    """Store the newest time that this service has seen and return the newest that any of its processes stored."""
    kept = (
        collection_named(database, "clock").find_one_and_update({"_id": "clock"}, {"$max": {"at": at}}, upsert=True, return_document=True)
        or {}
    )
    newest: datetime = kept.get("at", BEGINNING)
    return newest
