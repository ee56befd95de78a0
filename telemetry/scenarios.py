"""What has to happen so that something is emitted, by the names that the rows of the tables give.

Tests let each of it happen (`pytest.mark.scenario`) and see that its rows are emitted: `docs/how-to/add-things.md`.
"""

from __future__ import annotations

SCENARIOS: dict[str, str] = {
    "a process starts and ends": "A role starts, serves and ends at a signal.",
    "a part of a process fails": "One of a role's services raises, can't be stopped, or keeps the process from ending.",
    "a listener is open to others": "A role listens on more than the loopback address.",
    "a request breaks": "The answer to a request raises what nobody expected.",
    "a library logs": "A library writes a line with the standard library's logging.",
    "a handler logs": "A handler writes a line and saves a checkpoint.",
    "a level is changed": "An operator changes what a logger tells, and the time of the change runs out.",
    "Kafka goes away": "No broker answers for longer than a lease, then it is back.",
    "Postgres goes away": "Postgres is stopped, then it is back.",
    "a query is slow": "Postgres takes its time.",
    "a job runs": "A job is submitted, handed out, run and completed.",
    "a handler fails": "A handler raises until its job is given up; another one takes its process with it.",
    "a handler takes too long": "An attempt runs into its limit, or its process does not end when killed.",
    "a job is cancelled": "A job is cancelled while it runs.",
    "a checkpoint is refused": "A handler saves a checkpoint when its worker's lease is over.",
    "a worker is drained": "A worker leaves: it waits for what runs and hands the rest back, until a job is given up.",
    "a worker is started": "A worker loads its modules of handlers and looks at what it uses.",
    "a handler harms its worker": "A handler holds the event loop up, or kills its process or the keeper.",
    "a report is not taken": "The producer of a worker refuses a report.",
    "an inbox holds a broken record": "What is in a worker's inbox is not a task.",
    "a command is refused": "Something is asked that the state of a job does not allow.",
    "a scheduler serves": "Schedulers take the partitions of a cell over and give them back.",
    "an owner is fenced": "Another scheduler takes a partition over from one that does not know it.",
    "a log is damaged": "A topic has lost records, so the owner of a partition refuses to serve it.",
    "a partition is not served": "No scheduler serves a partition for a while.",
    "a record is broken": "Somebody writes into the topics what is no command and no event; an operator resolves it.",
    "the clock is wrong": "The clock of a scheduler is set to a wrong time, then set right.",
    "a timer fires late": "A timer fires more than a second after it was due.",
    "a partition misses commands": "A delivery between partitions fails, or never comes.",
    "a loop stalls": "One turn of an event loop takes long.",
    "a projector runs": "A projector migrates the database, applies events and looks at the read models and Postgres.",
    "the read models are rebuilt": "`jobledger projection rebuild`, over a log with a job that has ended twice.",
    "a projector can't go on": "Events are missing or unknown to the projector, or another one has applied them.",
    "the api is asked": "Mutations, queries and subscriptions come to the api.",
    "a subscriber is slow": "A subscriber does not read what it gets.",
    "a caller is refused": "A caller has no key that the api accepts, or asks too often.",
    "no scheduler answers": "A command has no outcome in the time that its mutation has.",
    "a job is traced": "A request with a traceparent submits a job whose handler calls something outside.",
    "too many traces wait": "More traces than the api holds wait for the end of their work.",
}
