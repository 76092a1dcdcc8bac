"""Keys have the partition that Kafka's Java client gives them."""

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from shared.streaming.partitions import murmur2, partition_for, partitions_for


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # The vectors of Kafka's own UtilsTest.testMurmur2, signed 32 bits there.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_kafkas_own_vectors(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


@given(st.binary(max_size=70))
def test_the_same_as_the_client_library(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) & 0xFFFFFFFF


@given(st.binary(max_size=70), st.integers(1, 64))
def test_every_key_has_a_partition(key: bytes, count: int) -> None:
    assert 0 <= partition_for(key, count) < count


@given(st.integers(0, 40).flatmap(lambda length: st.lists(st.binary(min_size=length, max_size=length), min_size=16, max_size=40)))
def test_many_keys_of_one_length_have_the_same_partitions_as_each_alone(keys: list[bytes]) -> None:
    assert partitions_for(keys, 8) == [partition_for(key, 8) for key in keys]


@given(st.lists(st.binary(max_size=2), max_size=120))
def test_many_keys_of_several_lengths_too(keys: list[bytes]) -> None:
    assert partitions_for(keys, 7) == [partition_for(key, 7) for key in keys]
