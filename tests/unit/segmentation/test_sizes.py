"""A segment's size over time is the sum of what its partitions say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.segmentation.domain.sizes import DaySize, PartSize, sizes_by_day

START = datetime(2025, 1, 1, tzinfo=UTC)


def part(day: int, partition: int, size: int | None) -> PartSize:
    return PartSize(day, partition, size, START + timedelta(days=day, seconds=partition))


def test_a_partition_that_was_not_counted_on_a_day_counts_as_it_last_was() -> None:
    told = sizes_by_day([part(3, 1, 7), part(1, 0, 1), part(1, 1, 10), part(2, 0, 2)])
    assert [(each.day, each.size) for each in told] == [(1, 11), (2, 12), (3, 9)]
    assert told[2].as_of == START + timedelta(days=2)


def test_days_before_every_partition_was_counted_are_left_out() -> None:
    assert [each.day for each in sizes_by_day([part(1, 0, 1), part(2, 0, 1), part(3, 1, 1), part(4, 0, 2)])] == [3, 4]


def test_a_segment_has_a_size_once_every_partition_knows_it() -> None:
    parts = [part(1, 0, None), part(1, 1, None), part(2, 0, 4), part(3, 1, 5), part(4, 0, None), part(4, 1, 5)]
    assert sizes_by_day(parts) == [DaySize(3, 9, START + timedelta(days=2))]
    assert sizes_by_day([]) == []
