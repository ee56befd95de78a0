"""The records of a part, read when they are wanted, behave as a dict of them."""

from __future__ import annotations

import random

import msgspec
import pytest

from jobledger.processors.core.part_records import PartRecords


@pytest.mark.parametrize("seed", range(20))
def test_records_are_a_mapping(seed: int) -> None:
    """Whatever is set, changed, deleted and put to rest, they hold what a dict would, in its order."""
    chance = random.Random(seed)
    records, expected = PartRecords[dict[str, int]](msgspec.json.decode), dict[str, dict[str, int]]()
    for number in range(200):
        key, act = str(chance.randint(0, 9)), chance.random()
        if act < 0.3:
            records[key], expected[key] = {"n": number}, {"n": number}
        elif act < 0.6 and key in expected:
            records[key]["n"] = expected[key]["n"] = -number
        elif act < 0.7:
            assert (records.pop(key, None), key in records) == (expected.pop(key, None), False)
        elif act < 0.9:
            for name in records:
                records.rest(name, msgspec.json.encode(records[name]))
            records.close()
        assert (dict(records), list(records), len(records)) == (expected, list(expected), len(expected))
        assert (key in records, records.get(key)) == (key in expected, expected.get(key))
