"""A topic that was made anew, or that ends too early, is refused by whoever stands on the old one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from log_cell import DURABILITY, LogCell, OwnerAlone, submit, until

from jobledger.eventlog.topic_watch import TopicWatch, topic_ids
from jobledger.eventlog.topics import TopicError, ensure_topics
from jobledger.processors.checks import SchedulerChecks
from jobledger.processors.core.recovery import check_topics
from jobledger.schemas.topics import Topic

pytestmark = [pytest.mark.kafka]

NOTICED_SECONDS = 5.0
#: What a loaded machine may add.
SLACK_SECONDS = 5.0


async def make_anew(cell: LogCell, topic: Topic) -> None:
    """Delete the topic; create it with the same settings."""
    await asyncio.to_thread(cell.delete_topic, topic)
    await asyncio.to_thread(cell.create_topic, topic)


async def decide_some(cell: LogCell) -> None:
    for p in range(cell.partitions):
        await cell.ask(cell.job_on(p), submit(queue=cell.queue_on(p)))


@pytest.mark.parametrize("topic", [Topic.COMMANDS, Topic.TASKS])
async def test_every_role_notices_a_topic_that_is_made_anew_while_it_runs(log_cell: LogCell, topic: Topic) -> None:
    """Within five seconds, and with a sentence that says what happened and what repairs it."""
    watch = TopicWatch(log_cell.kafka.client_config(), log_cell.cell)
    await watch.start()
    await make_anew(log_cell, topic)
    begun = time.monotonic()
    with pytest.raises(TopicError, match=rf"'{log_cell.topic(topic)}' was deleted.*Restore it.*delete all topics"):
        await asyncio.wait_for(watch.wait(), 30)
    assert time.monotonic() - begun < NOTICED_SECONDS + SLACK_SECONDS
    await watch.stop()


async def test_a_scheduler_refuses_commands_made_anew_also_when_new_records_have_passed_the_old(
    log_cell: LogCell, start_scheduler: Any, stop: Any
) -> None:
    """The checkpoint knows the topic it counts in; without that the owner would skip what is new as if it were old."""
    first = await start_scheduler("scheduler-1")
    await decide_some(log_cell)
    await make_anew(log_cell, Topic.COMMANDS)
    begun = time.monotonic()
    with pytest.raises(TopicError, match="was deleted"):
        await asyncio.wait_for(first.services.topics.wait(), 30)
    assert time.monotonic() - begun < NOTICED_SECONDS + SLACK_SECONDS
    await stop(first)
    sent = [await log_cell.send(log_cell.job_on(p), submit()) for p in range(4) for _ in range(5)]
    second = await start_scheduler("scheduler-1")
    await until(lambda: all(owner.refusal for owner in second.owners.owners.values()), 30)
    assert all("was deleted and made anew" in str(owner.refusal) for owner in second.owners.owners.values())
    checked = await SchedulerChecks(second, 6.0).coordination()
    assert checked.status == "UNHEALTHY"
    assert "JOBLEDGER_ACCEPT_NEW_TOPICS" in str(checked.details["error"])
    assert not any(command in log_cell.outcomes for command in sent)


async def test_a_topic_restored_from_a_copy_is_accepted_when_told_so(log_cell: LogCell, start_owner: Any) -> None:
    """The other checks still hold: the operator says only that the new id is right."""
    one: OwnerAlone = await start_owner(0)
    await log_cell.ask(log_cell.job_on(0), submit())
    checkpoint = one.machine.checkpoint
    check_topics(checkpoint, {"commands": "old"})
    with pytest.raises(Exception, match="was deleted and made anew"):
        check_topics(checkpoint, {"commands": "new"})
    check_topics(checkpoint, {"commands": "new"}, accept_new=True)
    check_topics(checkpoint, {"commands": "new"})


async def test_state_that_was_lost_alone_is_no_new_cell(
    log_cell: LogCell, start_owner: Any, start_scheduler: Any
) -> None:
    """Commands were decided, says the group; to decide them again would run every job twice."""
    first = await start_scheduler("scheduler-1")
    await decide_some(log_cell)
    await until(lambda: log_cell.group_offset(0) > 0)
    first.services.topics._known.clear()  # this scheduler is not the one that is asked
    await first.stop()
    await make_anew(log_cell, Topic.STATE)
    await make_anew(log_cell, Topic.EVENTS)
    one = await start_owner(0)
    assert "Records were lost" in str(one.owner.refusal)


async def test_commands_that_end_before_the_checkpoint_are_noticed(log_cell: LogCell) -> None:
    """A log that was cut holds less than what was decided."""
    ends = dict.fromkeys(range(4), 0)
    watch = TopicWatch(log_cell.kafka.client_config(), log_cell.cell, lambda: ends)
    await watch.start()
    watching = asyncio.ensure_future(watch.wait())
    await asyncio.sleep(4)
    assert not watching.done()
    ends[2] = 7
    with pytest.raises(TopicError, match=r"\[2\] ends at offset 0, but its commands up to 7 are decided"):
        await asyncio.wait_for(watching, 15)
    await watch.stop()


async def test_a_scheduler_does_not_make_a_deleted_topic_anew(log_cell: LogCell) -> None:
    """A cell that has records misses what was deleted; it does not begin with an empty one."""
    await log_cell.send(log_cell.job_on(0), submit())
    await asyncio.to_thread(log_cell.delete_topic, Topic.STATE)
    config = log_cell.kafka.client_config()
    with pytest.raises(TopicError, match=r"state' does not exist any more, but .*commands' has records"):
        await asyncio.to_thread(ensure_topics, config, log_cell.cell, log_cell.partitions, DURABILITY)
    assert Topic.STATE not in topic_ids(config, log_cell.cell)
