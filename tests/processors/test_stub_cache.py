"""The cache of stubs and keys: damaged or full, it is made anew from the log, and no command is rejected for it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from log_cell import USER, submit, until
from owner_in_memory import OwnerInMemory, new_job
from uuid_utils.compat import uuid7

from jobledger.domain.job import commands as jc
from jobledger.processors.core.recovery import LatestState
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.state_records import Stub, encode_state, stub_key
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import OutcomeStatus


def command(stream: str, body: Any, identity: str) -> Command:
    return Command(id=identity, stream=stream, actor=USER, body=body, reply=True)


def stub(seq: int, expires_at_ms: int = 2_000_000_000_000) -> bytes:
    return encode_state(
        Stub(
            seq=seq, version=2, status="CANCELLED", ended_at_ms=1, expires_at_ms=expires_at_ms, request_digest="d" * 64
        )
    )


def damage(retained: Retained, path: Path) -> None:
    """Every page behind the first ones holds something else: as a disk that has gone bad."""
    size = path.stat().st_size
    assert size > 8 * 1024 * 1024, "all of it would be in memory"
    with path.open("r+b") as file:
        file.seek(64 * 1024)
        file.write(os.urandom(size - 64 * 1024))


def fill(retained: Retained, path: Path) -> None:
    """No room on the disk."""
    pages = retained._db.execute("PRAGMA page_count").fetchone()[0]
    retained._db.execute(f"PRAGMA max_page_count={pages}")


@pytest.mark.parametrize("harm", [damage, fill])
async def test_a_harmed_cache_is_made_anew_and_rejects_nothing(
    tmp_path: Path, harm: Callable[[Retained, Path], None]
) -> None:
    paths: list[Path] = []

    def make() -> Retained:
        paths.append(tmp_path / f"cache-{len(paths)}")
        return Retained(str(paths[-1]))

    owner = OwnerInMemory(make_retained=make)
    state = owner.log.partitions[0].state
    for number in range(60_000):
        state[stub_key(new_job(f"{number:08x}"))] = stub(number)
    await owner.start()
    ended = new_job(str(uuid7()))
    owner.send(command(ended, submit(due_at_ms=1_999_999_999_999), ended))
    owner.send(command(ended, jc.CancelJob(), "cancel"))
    await owner.decided("cancel")
    harm(owner.machine.retained, paths[0])
    streams = [new_job(str(uuid7())) for _ in range(300)]
    for stream in streams:
        owner.send(command(stream, submit(), stream))
        owner.send(command(stream, jc.CancelJob(), f"cancel/{stream}"))
    owner.send(command(ended, jc.CancelJob(), "cancel"))
    owner.send(command(ended, submit(due_at_ms=1_999_999_999_999), ended))
    for stream in streams:
        assert (await owner.decided(stream, 60)).status is OutcomeStatus.ACCEPTED
    await until(lambda: all(f"cancel/{stream}" in owner.outcomes for stream in streams), 60)
    assert owner.partition.opened > 1 and not owner.log.quarantine
    assert {o.status for o in owner.outcomes.values()} == {OutcomeStatus.ACCEPTED}
    assert owner.outcomes[ended].duplicate, "what it knew is in the log"
    await owner.stop()


def test_stubs_go_to_the_cache_while_the_state_is_read() -> None:
    """Memory holds what is live; a later record of a key replaces the earlier one, a tombstone takes it away."""
    latest = LatestState(Retained())
    a, b = stub_key("job:default:a"), stub_key("job:default:b")
    latest.take([(a, stub(1)), (b"s|job:default:c", b"c"), (b, stub(2))])
    latest.take([(a, stub(3)), (b, None), (b"s|job:default:c", None), (b"s|job:default:d", b"d")])
    latest.take([(b, stub(4)), (b, None), (a, None), (a, stub(5))])
    assert latest.records == {b"s|job:default:d": b"d"}
    assert dict(latest.retained.items()) == {a: stub(5)}
    assert latest.retained.expired(2_000_000_000_001, 10) == [a]


@pytest.mark.parametrize("seed", range(10))
def test_what_has_expired_is_told_until_it_is_removed(seed: int) -> None:
    """Whatever comes, goes and is put off, in any order: as a dict that is gone through each time would tell."""
    chance = random.Random(seed)
    retained, expected = Retained(), dict[bytes, int]()
    for now in range(1, 300):
        for _ in range(chance.randint(0, 3)):
            key, expires = b"%d" % chance.randint(0, 40), chance.choice((0, now + chance.randint(-5, 60)))
            retained.put_many([(key, b"x", expires)])
            expected[key] = expires
        limit = chance.randint(1, 5)
        found = retained.expired(now, limit)
        due = {key for key, expires in expected.items() if 0 < expires <= now}
        assert set(found) <= due and len(found) == min(limit, len(due))
        gone = chance.sample(found, chance.randint(0, len(found)))
        retained.remove_many(gone)
        for key in gone:
            del expected[key]
