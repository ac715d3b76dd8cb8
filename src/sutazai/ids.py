"""Why it exists: identifiers sort by time, tell what they name, and a retried turn makes the same ones again."""

from __future__ import annotations

import hashlib
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_TIME_DIGITS = 9  # 45 bits of milliseconds: until the year 3084
_RANDOM_DIGITS = 13  # 65 bits
_HASH_DIGITS = 26  # 130 bits


def _encode(number: int, digits: int) -> str:
    """Write the lowest ``digits`` digits, two at a time: every task and every turn's child is named by this."""
    even = digits & ~1
    text = "".join([_PAIRS[number >> shift & 1_023] for shift in range(5 * even - 10, -1, -10)])
    return _ALPHABET[number >> 5 * even & 31] + text if digits & 1 else text


def new_id(prefix: str) -> str:
    """Make a new identifier, like ``t_1jx3k9…``; later ones sort behind earlier ones (to the millisecond)."""
    now = time.time_ns() // 1_000_000
    return f"{prefix}_{_encode(now, _TIME_DIGITS)}{_encode(secrets.randbits(65), _RANDOM_DIGITS)}"


def child_task_id(parent: str, call_site: str, index: int) -> str:
    """Make the identifier of a task that a turn emits.

    It depends on nothing but its arguments, so a turn that is executed twice names the same children and the second
    commit cannot double them.

    Args:
        parent: identifier of the emitting task.
        call_site: step and place in the code, stable over retries.
        index: how many tasks this call site has emitted in this task before.
    """
    digest = hashlib.sha256(f"{parent}\0{call_site}\0{index}".encode()).digest()
    return f"t_{_encode(int.from_bytes(digest[:17], 'big') >> 6, _HASH_DIGITS)}"


def named_child_id(parent: str, name: str) -> str:
    """Make the identifier of a child that its parent names, whatever step or round emits it.

    Whoever knows parent and name knows the child, so nobody has to remember it.
    """
    return child_task_id(parent, f"\x1e{name}", 0)


def replay_task_id(dead: str) -> str:
    """Make the identifier of the task that does a dead letter again; asking twice names the same task."""
    return child_task_id(dead, "replay", 0)


def occurrence_task_id(agent: str, schedule: str, at_wall_ms: int) -> str:
    """Make the identifier of the task of one time of a schedule; the same time never has a second one."""
    return child_task_id(agent, f"schedule {schedule}", at_wall_ms)


def new_token() -> str:
    """Make a secret of 192 bits, safe in URLs."""
    return secrets.token_urlsafe(24)
