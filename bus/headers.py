"""Header names on the wire: the server's and ours. Callers import the names; the spelling stands here only."""

from __future__ import annotations

# The server's (ADR-4, ADR-8, ADR-9, ADR-37, ADR-51).
STATUS = "Status"
DESCRIPTION = "Description"
MSG_ID = "Nats-Msg-Id"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
SEQUENCE = "Nats-Sequence"
LAST_SEQUENCE = "Nats-Last-Sequence"
SUBJECT = "Nats-Subject"
TIME_STAMP = "Nats-Time-Stamp"
NUM_PENDING = "Nats-Num-Pending"
SCHEDULE = "Nats-Schedule"
SCHEDULE_TARGET = "Nats-Schedule-Target"
SCHEDULER = "Nats-Scheduler"
SCHEDULE_NEXT = "Nats-Schedule-Next"
SCHEDULE_TIME_ZONE = "Nats-Schedule-Time-Zone"
# What a direct get or a republish adds to the headers that a message was stored with.
OF_READING = frozenset(
    {"Nats-Stream", SUBJECT, SEQUENCE, LAST_SEQUENCE, TIME_STAMP, NUM_PENDING, "Nats-UpTo-Sequence", "Nats-Msg-Size"}
)

# Ours, on job requests.
JOB_ID = "Job-Id"
JOB_WAKE = "Job-Wake"
JOB_PARENT = "Job-Parent"
JOB_BLOB = "Job-Blob"
JOB_VERSION = "Job-Version"
JOB_FORK = "Job-Fork"
JOB_START = "Job-Start"
JOB_DEADLINE = "Job-Deadline"
JOB_SCHEDULE = "Job-Schedule"
TRACEPARENT = "traceparent"

# Ours, on a direct call of a tool: how many seconds it may take.
CALL_TIMEOUT = "Call-Timeout"

# Ours, on events: lets a writer find its own event again after an answer was lost.
EVENT_ID = "Event-Id"
