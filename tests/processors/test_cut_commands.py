"""A log of commands that lost its end and grew again: what stands below the checkpoint was never decided."""

from __future__ import annotations

import pytest
from log_cell import USER, submit
from owner_in_memory import OwnerInMemory, new_job
from uuid_utils.compat import uuid7

from jobledger.schemas.commands import Command, CommandRecord, encode_record
from jobledger.simulator.broker import MemoryBroker

RECORDS = 5


def new_command() -> Command:
    identity = str(uuid7())
    return Command(id=identity, stream=new_job(identity), actor=USER, body=submit(), reply=True)


async def decided_log() -> MemoryBroker:
    """A log of which an owner has decided everything."""
    one = OwnerInMemory()
    await one.start()
    for _ in range(RECORDS):
        command = new_command()
        one.send(command)
        await one.decided(command.id)
    await one.stop()
    return one.log


async def test_it_is_refused_when_other_records_have_come_in_the_places_of_the_lost() -> None:
    """The owner would skip them as decided, and nobody would ever hear of them."""
    log = await decided_log()
    commands = log.partitions[0].commands
    del commands[2:]
    commands += [encode_record(CommandRecord(commands=[new_command()])) for _ in range(RECORDS)]
    other = OwnerInMemory(log=log)
    await other.start()
    assert other.owner.refusal is not None
    assert f"offset {RECORDS - 1} is not the one that was decided" in other.owner.refusal
    assert "Restore the topic" in other.owner.refusal
    await other.stop()


@pytest.mark.parametrize("kept_from", [0, RECORDS - 1, RECORDS])
async def test_a_log_whose_old_records_were_removed_is_served(kept_from: int) -> None:
    """Retention removes them from the front, with the last decided one in the end."""
    log = await decided_log()
    log.partitions[0].commands_begin = kept_from
    other = OwnerInMemory(log=log)
    await other.start()
    assert other.owner.refusal is None
    command = new_command()
    other.send(command)
    assert (await other.decided(command.id)).rejection is None
    await other.stop()
