"""The records of a part, read when they are wanted, behave as a dict of them."""

from __future__ import annotations

import random

import msgspec
import pytest

from jobledger.processors.core.part_records import PartRecords, UntoldChangeError


@pytest.mark.parametrize("seed", range(20))
def test_records_are_a_mapping(seed: int) -> None:
    """Whatever is set, changed, deleted and put to rest, they hold what a dict would, in its order."""
    chance = random.Random(seed)
    records, expected = PartRecords[dict[str, int]](msgspec.json.decode), dict[str, dict[str, int]]()
    gone = set[str]()
    for number in range(200):
        key, act = str(chance.randint(0, 9)), chance.random()
        if act < 0.3:
            records[key], expected[key] = {"n": number}, {"n": number}
        elif act < 0.6 and key in expected:
            records[key]["n"] = expected[key]["n"] = -number
        elif act < 0.7:
            gone.add(key)
            assert (records.pop(key, None), key in records) == (expected.pop(key, None), False)
        elif act < 0.9:
            for name in gone.union(records):
                records.rest(name, msgspec.json.encode(records[name]) if name in records else None)
            records.close()
            gone.clear()
        assert (dict(records), list(records), len(records)) == (expected, list(expected), len(expected))
        assert (key in records, records.get(key)) == (key in expected, expected.get(key))


@pytest.mark.parametrize("change", ["set", "replace", "delete"])
def test_a_change_that_nobody_has_told_of_is_found(change: str) -> None:
    """It would be another record after a takeover."""
    records = PartRecords[int](msgspec.json.decode, {"a": b"1", "b": b"2"})
    assert records["a"] == 1
    records.close()
    if change == "set":
        records["c"] = 3
    elif change == "replace":
        records["b"] = 3
    else:
        del records["b"]
    with pytest.raises(UntoldChangeError, match=r"records [bc]\."):
        records.close()
    records.rest("c" if change == "set" else "b", None if change == "delete" else b"3")
    records.close()
    assert dict(records) == {"set": {"a": 1, "b": 2, "c": 3}, "replace": {"a": 1, "b": 3}, "delete": {"a": 1}}[change]
