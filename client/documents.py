"""The GraphQL documents of the client."""

from __future__ import annotations

from jobledger.client.models import EVENT_FIELDS, JOB_FIELDS, QUEUE_FIELDS, WORKER_FIELDS

_ERROR = "... on UserError { code message path value remedy }"
_CONFLICT = "... on Conflict { status }"
_REST = f"... on Pending {{ commandId message }} {_ERROR} {_CONFLICT}"

SUBMIT = f"""
mutation($input: SubmitJobInput!) {{ submitJob(input: $input) {{ __typename
  ... on SubmitJobSuccess {{ job {{ id status }} position duplicate }}
  ... on Pending {{ commandId jobId message }} {_ERROR} }} }}"""

SUBMIT_MANY = f"""
mutation($input: [SubmitJobInput!]!) {{ submitJobs(input: $input) {{ __typename
  ... on SubmitJobsSuccess {{ jobIds duplicateIndexes position
    problems {{ index commandId error {{ code message path value remedy }} }} }} {_ERROR} }} }}"""

CANCEL = f"""
mutation($input: CancelJobInput!) {{ cancelJob(input: $input) {{ __typename
  ... on CancelJobSuccess {{ job {{ id status }} position }} {_REST} }} }}"""

REDRIVE = f"""
mutation($input: RedriveJobInput!) {{ redriveJob(input: $input) {{ __typename
  ... on RedriveJobSuccess {{ job {{ id status }} position }} {_REST} }} }}"""

DISCARD = f"""
mutation($input: DiscardJobInput!) {{ discardJob(input: $input) {{ __typename
  ... on DiscardJobSuccess {{ job {{ id status }} position }} {_REST} }} }}"""

CREATE_QUEUE = f"""
mutation($input: CreateQueueInput!) {{ createQueue(input: $input) {{ __typename
  ... on QueueSuccess {{ queue {{ name }} position duplicate }} {_REST} }} }}"""

UPDATE_QUEUE = f"""
mutation($input: UpdateQueueInput!) {{ updateQueue(input: $input) {{ __typename
  ... on QueueSuccess {{ queue {{ name }} position duplicate }} {_REST} }} }}"""

JOB = f"query($id: ID!, $after: Position) {{ job(id: $id, after: $after) {{ {JOB_FIELDS} }} }}"

JOBS = f"""
query($filter: JobFilter, $first: Int!, $after: Cursor, $position: Position) {{
  jobs(filter: $filter, first: $first, after: $after, afterPosition: $position) {{
  edges {{ node {{ {JOB_FIELDS} }} }} pageInfo {{ hasNextPage endCursor }} position }} }}"""

QUEUES = f"query($after: Position) {{ queues(after: $after) {{ {QUEUE_FIELDS} }} }}"

WORKERS = f"query($queue: String, $after: Position) {{ workers(queue: $queue, after: $after) {{ {WORKER_FIELDS} }} }}"

STATUSES = """
query($filter: JobFilter, $first: Int!, $position: Position) {
  jobs(filter: $filter, first: $first, afterPosition: $position) { edges { node { id status } } position } }"""

EVENTS = f"""
subscription($filter: JobEventFilter!, $after: Position, $fromStart: Boolean!) {{
  jobEvents(filter: $filter, after: $after, fromStart: $fromStart) {{
    __typename ... on JobEvent {{ {EVENT_FIELDS} }} ... on Resync {{ message position }} }} }}"""

ENDS = """
subscription($filter: JobEventFilter!, $after: Position) {
  jobEvents(filter: $filter, after: $after) {
    __typename ... on JobEvent { jobId position } ... on Resync { message position } } }"""

END_TYPES = ["job.succeeded", "job.dead_lettered", "job.cancelled", "job.discarded"]
