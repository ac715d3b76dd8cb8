"""Why it exists: a rate limit that a restart forgets is none, so it is one number in the store, written with the claim.

GCRA (the generic cell rate algorithm, ITU-T I.371): the number is the time at which an agent that never paused would
start its next turn. A turn may start while that time is at most ``(burst - 1) * interval`` ahead, and moves it on by
one interval. So in a time of ``n`` intervals never more than ``n + burst`` turns start, whatever fell over in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.store.queries import sql

if TYPE_CHECKING:
    from sutazai.store.times import Rate
    from sutazai.store.txn import Txn

_GET = sql("limit_get")
_PUT = sql("limit_put")


def wait(txn: Txn, agent: str, rate: Rate) -> bool:
    """Whether the agent's next turn may not start yet; the outcome says when."""
    found = txn.execute(_GET, (agent,)).fetchone()
    txn.outcome.rate_us = 0 if found is None else found[0]
    txn.outcome.limited_ms = rate.next_ms(txn.outcome.rate_us, txn.now_ms)
    return txn.outcome.limited_ms > 0


def start(txn: Txn, agent: str, rate: Rate) -> None:
    """A turn starts now: move the agent's number on; part of the claim's transaction, behind ``wait``."""
    ahead_us = rate.ahead_us(txn.outcome.rate_us, txn.now_ms)
    txn.outcome.rate_us = txn.now_ms * 1_000 + ahead_us + rate.interval_us
    txn.execute(_PUT, {"agent": agent, "next_us": txn.outcome.rate_us})
