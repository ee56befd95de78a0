"""The GraphQL documents of the command line."""

from __future__ import annotations

_ROW = "id status handler queueName priority attempt submittedAt dueAt endedAt worker errorType tags { name value }"

JOBS = f"""
query($filter: JobFilter, $first: Int!, $after: Cursor, $order: JobOrder) {{
  jobs(filter: $filter, first: $first, after: $after, order: $order) {{
    edges {{ node {{ {_ROW} }} }} pageInfo {{ hasNextPage endCursor }} position }} }}"""

JOB = f"""
query($id: ID!) {{ job(id: $id) {{ {_ROW}
  payload result error deadLetterCause cancelReason cancelRequestedAt startedAt retryAt timeoutSeconds parentId
  correlationId version why
  retry {{ maxAttempts initialSeconds factor maxSeconds jitterRatio }}
  attempts {{ attempt assignment cause status worker readyAt assignedAt startedAt endedAt retryAt
    errorType error }} }} }}"""

STATUS = "query($id: ID!) { job(id: $id) { id status } }"

HISTORY = """
query($id: ID!, $after: Cursor) { job(id: $id) { events(first: 100, after: $after) {
  edges { node { type version partition seq at status actor { kind id } commandId causationId data } }
  pageInfo { hasNextPage endCursor } } } }"""

QUEUES = "query { queues { name description maxWaitingBytes waiting waitingBytes held createdAt updatedAt } }"

QUEUE = """
query($name: String!) { queue(name: $name) { name description maxWaitingBytes waiting waitingBytes held createdAt
  updatedAt live { waiting held waitingBytes waitingByPriority { priority waiting }
    workers { worker incarnation pool credits held lost } } } }"""

WORKERS = """
query($queue: String) { workers(queue: $queue) {
  id incarnation pool handlers lost registeredAt queues { queue credits held lost } } }"""

SLO = """
query($days: Int!) { slo(windowDays: $days) { name objective target windowDays since actual total bad excluded
  errorBudget errorBudgetRemaining burnRate } }"""

COMMAND = """
query($id: ID!) { command(id: $id) { id status jobId position at error { code message path value remedy } } }"""

TRACE = """
query($id: ID!) { trace(id: $id) { __typename
  ... on Trace { id spans { id parentId name service start startMs durationMs attributes failed links } }
  ... on UserError { code message } } }"""

TRACES_OF_JOB = """
query($id: ID!) { job(id: $id) { traceparent events(first: 100) { edges { node { traceparent } } } } }"""

SERVED = "query($queue: String) { workers(queue: $queue) { handlers lost } }"

_SET_ASIDE = "id status reason at topic partition offset index commandId stream size resolvedAt resolvedBy note"

QUARANTINE = f"""
query($first: Int!, $after: Cursor, $resolved: Boolean!) {{
  quarantine(first: $first, after: $after, resolved: $resolved) {{
    edges {{ node {{ {_SET_ASIDE} }} }} pageInfo {{ hasNextPage endCursor }} }} }}"""

QUARANTINED = f"query($id: ID!) {{ quarantined(id: $id) {{ {_SET_ASIDE} text data }} }}"

#: MUTATION is retryQuarantined or discardQuarantined.
RESOLVE_QUARANTINED = f"""
mutation($id: ID!, $note: String!) {{ MUTATION(id: $id, note: $note) {{ __typename
  ... on QuarantineResolved {{ item {{ {_SET_ASIDE} }} }}
  ... on UserError {{ code message path value remedy }} }} }}"""
