"""Why it exists: after an outage a thousand tasks want their next attempt at once; a budget spreads them out.

A token bucket for each agent, as a pure value: first attempts pay a share of a token in, a retry takes one out. A retry
that finds no token is not refused: it is told how much longer it has to wait until its token is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from sutazai.limits import RETRY_BUDGET_BURST, RETRY_BUDGET_DEFAULT, RETRY_LEAST_US_DEFAULT


@dataclass(frozen=True, slots=True)
class Policy:
    """How many retries an agent may have.

    Attributes:
        share: of its first attempts, 0 or more.
        least_us: beside that a retry every so many microseconds, whatever the traffic.
    """

    share: float = RETRY_BUDGET_DEFAULT
    least_us: int = RETRY_LEAST_US_DEFAULT

    @classmethod
    def of(cls, retry: dict[str, Any]) -> Self:
        """Read what the plan says of an agent's retries."""
        return cls(float(retry.get("budget", RETRY_BUDGET_DEFAULT)), int(retry.get("least_us", RETRY_LEAST_US_DEFAULT)))


class Budget:
    """Of one agent; full at the beginning.

    Args:
        policy: of the agent.

    Attributes:
        delayed: retries that had to wait for their token.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.delayed = 0
        self._tokens = float(RETRY_BUDGET_BURST)
        self._at_ms = 0

    def tokens(self, now_ms: int) -> float:
        """What is in it; below 0 it is promised to retries that wait."""
        if now_ms > self._at_ms:
            self._tokens = min(
                float(RETRY_BUDGET_BURST), self._tokens + (now_ms - self._at_ms) * 1_000 / self.policy.least_us
            )
            self._at_ms = now_ms
        return self._tokens

    def attempted(self, now_ms: int) -> None:
        """A task was tried for the first time."""
        self._tokens = min(float(RETRY_BUDGET_BURST), self.tokens(now_ms) + self.policy.share)

    def take(self, now_ms: int) -> int:
        """Take a token for a retry.

        Returns:
            How long the retry waits beyond its own pause until its token is there, milliseconds; 0 for not at all.
        """
        left = self.tokens(now_ms) - 1
        self._tokens = left
        if left >= 0:
            return 0
        self.delayed += 1
        return -int(left * self.policy.least_us // 1_000)

    def give_back(self, now_ms: int, held_ms: int) -> None:
        """The failure for which a token was taken led to no retry."""
        self._tokens = min(float(RETRY_BUDGET_BURST), self.tokens(now_ms) + 1)
        self.delayed -= held_ms > 0
