"""Which ids a new job may have."""

from __future__ import annotations

import time
import uuid

import pytest
import uuid_utils.compat

from jobledger.domain.identity import ID_AHEAD_MS, derived_job_id, fault_of_new_job_id, minted_ms

NOW = 1_800_000_000_000
DAY_MS = 86_400_000


def made_at(ms: int, version: int = 7) -> str:
    text = f"{ms:012x}"
    return f"{text[:8]}-{text[8:]}-{version}c0a-9f4e-2d1c7e0b5a41"


@pytest.mark.parametrize("at", [NOW, NOW - DAY_MS + 1, NOW + ID_AHEAD_MS])
def test_an_id_made_within_the_window_is_taken(at: int) -> None:
    assert fault_of_new_job_id(made_at(at), NOW, DAY_MS) is None


@pytest.mark.parametrize(
    ("job_id", "word"),
    [
        ("0199", "UUIDv7"),
        ("", "UUIDv7"),
        ("6f1d1d2c-6f5b-4c0a-9f4e-2d1c7e0b5a41", "UUIDv7"),
        ("6f1d1d2c-6f5b-5c0a-9f4e-2d1c7e0b5a41", "UUIDv7"),
        (made_at(NOW).upper(), "UUIDv7"),
        (made_at(NOW).replace("-", ""), "UUIDv7"),
        (made_at(NOW, version=8), "UUIDv7"),
        (made_at(NOW)[:19] + "c" + made_at(NOW)[20:], "UUIDv7"),
        (made_at(NOW + ID_AHEAD_MS + 1), "300 s from now"),
        ("ffffffff-ffff-7c0a-9f4e-2d1c7e0b5a41", "from now"),
        (made_at(NOW - DAY_MS), "within the last 86,400 s"),
        (made_at(0), "older"),
    ],
)
def test_any_other_id_is_refused_in_one_sentence(job_id: str, word: str) -> None:
    fault = fault_of_new_job_id(job_id, NOW, DAY_MS)
    assert fault is not None
    assert word in fault
    assert fault.endswith(".")


def test_an_id_tells_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = minted_ms(str(uuid_utils.compat.uuid7()))
    assert made is not None
    assert before <= made <= time.time_ns() // 1_000_000
    assert minted_ms(str(uuid.uuid4())) is None


def test_a_derived_id_follows_from_its_cause_and_is_the_systems_alone() -> None:
    """The same decision, the same id; a user can't take it, and it can come as late as its outbox delivers it."""
    fire = derived_job_id(NOW, "schedule:default:nightly", NOW)
    assert fire == derived_job_id(NOW, "schedule:default:nightly", NOW)
    assert len({fire, derived_job_id(NOW + 1, "schedule:default:nightly", NOW), derived_job_id(NOW, "x")}) == 3
    assert (uuid.UUID(fire).version, uuid.UUID(fire).variant, minted_ms(fire)) == (8, uuid.RFC_4122, NOW)
    assert "UUIDv7" in (fault_of_new_job_id(fire, NOW, DAY_MS) or "")
    assert fault_of_new_job_id(fire, NOW + 30 * DAY_MS, DAY_MS, by_system=True) is None
    assert "from now" in (fault_of_new_job_id(fire, NOW - DAY_MS, DAY_MS, by_system=True) or "")
