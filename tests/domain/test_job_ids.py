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
        (made_at(NOW + DAY_MS), "was made 86,400 s from now"),
        (made_at(NOW - DAY_MS), "within the last 86,400 s"),
        (made_at(0), "older"),
    ],
)
def test_any_other_id_is_refused_in_one_sentence(job_id: str, word: str) -> None:
    fault = fault_of_new_job_id(job_id, NOW, DAY_MS)
    assert fault is not None
    assert word in fault
    assert fault.endswith(".")


def test_an_endless_id_is_told_by_its_beginning() -> None:
    """A sentence of a rejection stays short whatever somebody sends."""
    fault = fault_of_new_job_id("x" * 1_000, NOW, DAY_MS)
    assert fault is not None
    assert f"'{'x' * 120}'" in fault


def test_without_a_window_an_id_is_as_old_as_it_likes() -> None:
    """Who does not know how long stubs are kept looks ahead only, for people and for the system alike."""
    assert fault_of_new_job_id(made_at(0), NOW) is None
    assert fault_of_new_job_id(made_at(0, version=8), NOW, by_system=True) is None
    assert fault_of_new_job_id(made_at(NOW + ID_AHEAD_MS + 1), NOW) is not None
    assert ID_AHEAD_MS == 300_000


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


DERIVED = {
    "01a3185c-5000-844a-a76f-7acc20cdb83f": (NOW, "schedule:default:nightly", NOW),
    "01a3185c-5001-881d-9c06-7f1c134c4bf7": (NOW + 1, "schedule:default:nightly", NOW + 1),
    "00000000-0000-8496-b9e2-46f3fec0b40e": (0,),
    "ffffffff-ffff-8f9d-9ac1-cbc32bf751d3": (2**48 - 1, "job:default:0199", "main", 2),
}


@pytest.mark.parametrize("job_id", DERIVED)
def test_an_id_that_was_once_derived_is_derived_for_ever(job_id: str) -> None:
    """A decision that is taken again by a later version gives the same job, not a second one."""
    assert derived_job_id(*DERIVED[job_id]) == job_id


@pytest.mark.parametrize("at", [NOW, NOW + 1])
def test_derived_ids_are_all_of_the_systems_version_and_all_different(at: int) -> None:
    """Whatever the hash of a cause is: version, variant and time stand in their bits."""
    ids = [derived_job_id(at, f"cause-{n}") for n in range(100)]
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant, minted_ms(one)) for one in ids} == {(8, uuid.RFC_4122, at)}
    assert len(set(ids)) == len(ids)
