"""How far a client has seen the log."""

from __future__ import annotations

from jobledger.client.positions import Positions, earliest
from jobledger.eventlog.positions import encode_position


def test_the_highest_of_each_partition_is_kept() -> None:
    """Whatever the order of the answers."""
    seen = Positions()
    assert seen.to_read() is None
    for vector in ({0: 5}, {1: 7, 0: 3}, {2: 1}, {1: 6}):
        seen.note(encode_position("cell", vector))
    assert seen.to_read() == encode_position("cell", {0: 5, 1: 7, 2: 1})
    assert seen.to_read(encode_position("cell", {1: 9})) == encode_position("cell", {0: 5, 1: 9, 2: 1})


def test_another_cell_takes_the_place_of_the_first() -> None:
    """Positions of two cells mean nothing together; what is no position at all changes nothing."""
    seen = Positions()
    seen.note(encode_position("old", {0: 500}))
    seen.note(encode_position("new", {3: 1}))
    seen.note("?")
    seen.note(None)
    assert seen.to_read() == encode_position("new", {3: 1})


def test_the_earliest_of_several_pages_misses_nothing() -> None:
    """The first page's seq of each partition, and a later page's for a partition that had no event before."""
    pages = [encode_position("cell", {0: 5}), encode_position("cell", {0: 9, 1: 2}), encode_position("cell", {1: 3})]
    assert earliest(pages) == encode_position("cell", {0: 5, 1: 2})
    assert earliest([]) is None
