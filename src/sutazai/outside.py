"""Why it exists: a task may wait for somebody outside of the fleet: for a person's word, or for a signal of a program.

Such a task is a child like any other, of an agent of these names. No instance can have them, so nobody claims it and
nothing is in memory while it waits; it ends by a ``resolve``, by its deadline, or when it is cancelled.
"""

from __future__ import annotations

HUMAN = "human"
SIGNAL = "signal"
#: Names that no agent of a manifest may have.
OUTSIDE = frozenset({HUMAN, SIGNAL})

APPROVE, DENY, SEND = "approve", "deny", "signal"
#: What may be said to a waiting task, and of which kind that one must be.
VERDICTS = {APPROVE: HUMAN, DENY: HUMAN, SEND: SIGNAL}
#: What such a task waits without a deadline of its own; its parent's deadline is a bound in any case.
WAIT_MS_DEFAULT = 7 * 86_400_000
