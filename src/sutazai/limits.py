"""Why it exists: there is a limit on everything, and all limits and their relations stand in one place.

Each constant ends in its unit. ``_check`` asserts the relations between them when the module is loaded.
"""

from __future__ import annotations

from sutazai.errors import InternalError
from sutazai.units import KIB, MIB

# Manifest
MANIFEST_BYTES_MAX = 4 * MIB
MANIFEST_MISTAKES_MAX = 100  # shown
MANIFEST_MISTAKES_COUNTED_MAX = 400  # then reading stops: each one costs a search for what was meant
MANIFEST_NODES_MAX = 200_000  # values, aliases counted as often as they are used
MANIFEST_CPU_SETS_MAX = 64
MANIFEST_COMMAND_CHARACTERS_MAX = 8 * 1024  # of a command as one text; a list of words may be longer
MANIFEST_TEXT_CHARACTERS_MAX = 64 * 1024  # of one value
MANIFEST_MESSAGE_CHARACTERS_MAX = 400  # of one mistake
MANIFEST_DEPTH_MAX = 32
FLEET_NAME_CHARACTERS_MAX = 32
NAME_CHARACTERS_MAX = 63

# Wire
FRAME_BYTES_MAX = 8 * MIB
FRAMES_UNSENT_BYTES_MAX = 32 * MIB
BLOBS_PER_MESSAGE_MAX = 16

# HTTP edge
BODY_BYTES_MAX = 1 * MIB
FORWARD_BODY_BYTES_MAX = 64 * MIB  # of a request that is only handed on
HEADER_WAIT_MS_MAX = 10_000
BODY_WAIT_MS_MAX = 10_000
PREFER_WAIT_MS_MAX = 60_000

# Tasks
TASK_INPUT_BYTES_MAX = 1 * MIB
TASK_RESULT_BYTES_MAX = 4 * MIB  # of one that is stored in its row; a larger one lies in a file
RESULT_BYTES_MAX_DEFAULT = 64 * MIB  # of one in a file, unless the agent's manifest says otherwise
RESULT_BYTES_MAX = 1_024 * MIB
STATE_BYTES_MAX = 1 * MIB
EMITS_PER_TURN_MAX = 1_000
TASK_DEPTH_MAX = 16
QUEUE_TASKS_MAX = 100_000
QUEUE_BYTES_MAX = 512 * MIB  # of the inputs of all open tasks
ATTEMPTS_MAX_DEFAULT = 4
INFRA_LOSSES_MAX_DEFAULT = 20
DEADLINE_MS_DEFAULT = 600_000
SIGNAL_KEEP_MS = 7 * 86_400_000  # a signal that nobody waits for yet
SIGNALS_KEPT_MAX = 100  # of one task, for somebody who waits later
SIGNALS_REMEMBERED_MAX = 1_000  # of one task, for senders that repeat themselves
LEASE_MS = 10_000
HEARTBEAT_MS = 2_500
REATTACH_GRACE_MS = 5_000
PRIORITY_LOWEST = 9
PRIORITY_DEFAULT = 5
PRIORITY_AGING_MS = 10_000
RETRY_BASE_MS = 200
RETRY_CAP_MS = 60_000
RETRY_FACTOR_DEFAULT = 2.0
RETRY_FACTOR_MAX = 10
RETRY_CAP_MS_MAX = 86_400_000
CALLS_OPEN_MAX_DEFAULT = 10_000  # of one agent to one other
RETRY_BUDGET_DEFAULT = 0.2  # retries for each first attempt
RETRY_LEAST_US_DEFAULT = 1_000_000  # beside that a retry in a second
RETRY_BUDGET_BURST = 50  # retries at once after a pause
BREAKER_FAILURES_MAX = 1_000
BREAKER_WINDOW_MS_MAX = 3_600_000
BREAKER_PAUSE_MS_MAX = 3_600_000
BREAKER_PROBES_MAX = 100
SCHEDULE_LATE_MS = 10_000  # a start that is so late still counts as in time: the broker was being restarted
SCHEDULE_BACK_MS = 3_600_000  # a wall clock that is set back by more begins anew; by less, the schedule waits
SCHEDULES_PER_AGENT_MAX = 100
RATE_BURST_MAX = 10_000
RATE_INTERVAL_US_LEAST = 1_000  # a thousand turns of one agent in a second
GROUP_COMMIT_OPERATIONS_MAX = 256
GROUP_REPLY_BYTES_MAX = 8 * MIB  # of payloads that one group reads; the rest of its operations wait for the next one
OPERATIONS_PENDING_MAX = 8_192
SUBMIT_TASKS_MAX = 1_000
STORE_AWAY_ANSWER_MS = 5_000  # who asked is told after this time that the store's database does not answer
CARRY_BYTES_MAX = 1 * MIB
KEPT_BYTES_MAX = 1 * MIB  # of one value that a task keeps for its later turns
KEPT_PER_TURN_MAX = 20_000
RECALLED_MAX = 1_000  # names and tasks of one question
WAITING_LISTED_MAX = 100  # tasks that wait for somebody outside, in one answer
EFFECTS_BYTES_MAX = 256 * KIB
ERROR_DETAIL_BYTES_MAX = 64 * KIB
RESULTS_BYTES_MAX = 5 * MIB  # of all awaited children together, as one turn gets them
KEY_CHARACTERS_MAX = 200  # of an identifier, a session, an idempotency key
DELAY_MS_MAX = 365 * 86_400_000
EVENTS_PER_TASK_MAX = 200
TURNS_PER_TASK_MAX = 10_000
TASKS_KEPT_MAX = 200_000
STORE_BYTES_KEPT_MAX = 2_048 * MIB  # beyond it only the newest terminal tasks are kept
TASKS_KEPT_WHEN_LARGE = 1_000
BROKER_UNHANDLED_BYTES_MAX = 64 * MIB
HELLO_BYTES_MAX = 64 * KIB
TREE_TASKS_MAX = 5_000
LIST_TASKS_MAX = 1_000
STATES_PURGED_AT_ONCE = 20  # of up to 1 MB each: one slice of the broker's writer
STATE_KEEP_MS_DEFAULT = 30 * 24 * 3_600_000
WAITS_PER_CONNECTION_MAX = 4_096
OUTCOMES_READ_BYTES = 4 * MIB  # of results that one read of many tasks gives; the rest is read by the next
CONNECTIONS_MAX = 4_096
EXIT_WAIT_MS = 500  # a closed socket waits so long for the word whose fault it was
CANCEL_GRACE_MS = 2_000
ACT_MS_MAX = 4_000  # sutazaid answers an act by then; what is not done is said
ACT_WAIT_MS = 6_000  # then the broker gives the answer up
ACT_PATIENCE_MS = 30_000  # so long an instance asks again while broker or sutazaid is away
ACTS_PENDING_MAX = 64
TICKET_WAIT_MS = 5_000  # an instance may say hello before its ticket is known
STORE_BALLAST_BYTES = 32 * MIB

# Cache of agents
CACHE_VALUE_BYTES_MAX = 1 * MIB
CACHE_BYTES_MAX = 64 * MIB  # of all agents' values, where the cache is a file
CACHE_TTL_MS_DEFAULT = 3_600_000
CACHE_TTL_MS_MAX = 30 * 86_400_000
CACHE_PENDING_MAX = 64  # questions under way; what comes beyond is a miss
CACHE_MAKE_MS = 5_000  # so long a turn waits for another one that makes the same value; then it makes it too
CACHE_MAKERS_MAX = 1_000  # values that are being made; beyond, nobody waits for another one
CACHE_WAIT_MS = 1_000  # an instance waits no longer for an answer

# Results in files
PART_BYTES_MAX = 1 * MIB  # of a file, as one message carries it
UPLOADS_MAX = 64  # at once; more wait
DOWNLOADS_MAX = 64  # parts that are being read from the disk; more wait
SPILLED_BYTES_KEPT_MAX = 4_096 * MIB  # of all files; beyond it the oldest terminal tasks that have one are forgotten
SPILLED_KEPT_LEAST = 16  # newest files that stay, however large
SPILLED_SWEEP_MS = 600_000  # files that no task needs are looked for so often
SPILLED_SWEEP_FILES = 500  # names that one question to the store holds

# Dispatch by a message broker
DISPATCH_SIGNALS_MAX = 256  # in flight for each agent; more tasks than that are signalled as they are used up
DISPATCH_SIGNALS_PER_MESSAGE_MAX = 32
DISPATCH_PREFETCH_MIN = 4
DISPATCH_PREFETCH_MAX = 64  # messages delivered to this broker and not used up, for each agent
DISPATCH_UNCONFIRMED_MAX = 128  # messages on their way
DISPATCH_DELIVERIES_MAX = 20  # of one message, then it is undeliverable
DISPATCH_QUEUE_KEEP_MS = 24 * 3_600_000  # of a queue that nobody consumes
DISPATCH_SWEEP_MS = 1_000  # an idle instance and a due task wait so long for a signal, then the broker looks
DISPATCH_CONFIRM_MS = 500  # a signal is confirmed by then, or the broker looks by itself meanwhile
DISPATCH_GIVE_UP_S = 10  # a connection over which nothing is confirmed for so long is made anew
DISPATCH_PREPARE_S = 15  # a queue that is not there and consumed by then is deleted and declared anew
DISPATCH_HEARTBEAT_S = 10
DISPATCH_CONNECT_S = 5
DISPATCH_RECONNECT_S_MAX = 2.0
DISPATCH_UNDELIVERABLE_MAX = 1_000  # of which the newest are kept, for a person to look at

# Supervisor
LOG_BYTES_MAX_DEFAULT = 8 * MIB
LOG_FILES_KEPT = 2
LINE_BYTES_MAX = 256 * KIB
RESTART_BASE_MS = 250
RESTART_CAP_MS = 30_000
CRASH_LOOP_COUNT = 5
CRASH_LOOP_WINDOW_MS = 120_000
TICK_MS = 1_000
STOP_GRACE_MS_DEFAULT = 5_000
UNIX_PATH_BYTES_MAX = 107
INSTANCE_UIDS_MAX = 128
HOSTING_UIDS_MAX = 16
WORKER_IDLE_MS_DEFAULT = 60_000  # a worker that hosts instances and has none is stopped then


def _check() -> None:
    relations = {
        "a lease outlives three missed heartbeats": HEARTBEAT_MS * 3 < LEASE_MS,
        "an act is answered before its turn's silence counts": ACT_MS_MAX < ACT_WAIT_MS < LEASE_MS - HEARTBEAT_MS,
        "a reattaching instance is waited for less than a lease": REATTACH_GRACE_MS < LEASE_MS,
        "a queue in bytes holds many of the largest inputs": QUEUE_BYTES_MAX >= 100 * TASK_INPUT_BYTES_MAX,
        "a body fits a task": BODY_BYTES_MAX <= TASK_INPUT_BYTES_MAX,
        "a result fits a frame": TASK_RESULT_BYTES_MAX < FRAME_BYTES_MAX,
        "a turn's input, carry, results and state fit a frame": RESULTS_BYTES_MAX
        + TASK_INPUT_BYTES_MAX
        + CARRY_BYTES_MAX
        + STATE_BYTES_MAX
        <= FRAME_BYTES_MAX,
        "a full group leaves room in the queue of operations": GROUP_COMMIT_OPERATIONS_MAX < OPERATIONS_PENDING_MAX,
        "a long queue is signalled before it runs dry": DISPATCH_PREFETCH_MAX < DISPATCH_SIGNALS_MAX // 2,
        "a part of a file leaves room in a frame": PART_BYTES_MAX * 2 <= FRAME_BYTES_MAX,
        "who waits for a value is not silent for a lease": CACHE_MAKE_MS + CACHE_WAIT_MS < LEASE_MS,
        "a value of the cache fits a part": CACHE_VALUE_BYTES_MAX <= PART_BYTES_MAX,
        "a file is for what does not fit a row": TASK_RESULT_BYTES_MAX < RESULT_BYTES_MAX_DEFAULT <= RESULT_BYTES_MAX,
        "the files that stay hold the largest result": RESULT_BYTES_MAX < SPILLED_BYTES_KEPT_MAX,
        "a frame fits the unsent buffer": FRAME_BYTES_MAX < FRAMES_UNSENT_BYTES_MAX,
    }
    broken = [name for name, holds in relations.items() if not holds]
    if broken:
        msg = f"limits contradict each other: {'; '.join(broken)}"
        raise InternalError(msg)


_check()
