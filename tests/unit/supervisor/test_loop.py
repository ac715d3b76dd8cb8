"""The loop's promises: order of timers, errors that stop nothing, descriptors that change hands while events wait."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from sutazai.errors import InternalError
from sutazai.supervisor.loop import READ, Loop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that gives the signal wake-up back."""
    made = Loop()
    yield made
    made.close()


def test_timers_fire_in_order_and_cancelled_ones_never(loop: Loop) -> None:
    """By due time, then by age; a cancelled one is forgotten."""
    seen: list[str] = []
    loop.after(100, lambda: seen.append("late"))
    loop.after(0, lambda: seen.append("first"))
    loop.after(0, lambda: seen.append("second"))
    loop.after(0, lambda: seen.append("never")).cancel()
    loop.after(120, lambda: loop.stop(4))
    assert loop.run() == 4
    assert seen == ["first", "second", "late"]


def test_an_error_in_a_callback_is_logged_and_the_loop_goes_on(loop: Loop, capfd: pytest.CaptureFixture[str]) -> None:
    """One bad event does not end the process that keeps all others alive; a broken invariant does."""

    def broken() -> None:
        raise ValueError("bad event")

    def invariant() -> None:
        raise InternalError("broken")

    loop.after(0, broken)
    loop.after(1, invariant)
    with pytest.raises(InternalError):
        loop.run()
    assert "ValueError: bad event" in capfd.readouterr().err


def test_an_event_of_a_closed_descriptor_reaches_nobody(loop: Loop) -> None:
    """Two descriptors are ready; the first callback closes the second and gives its number to another socket."""
    pairs = [socket.socketpair() for _ in range(2)]
    seen: list[int] = []

    def on_ready(index: int) -> None:
        seen.append(index)
        other = pairs[1 - index][0]
        loop.unwatch(other.fileno())
        loop.unwatch(pairs[index][0].fileno())

    for index in range(2):
        loop.watch(pairs[index][0].fileno(), READ, lambda _events, index=index: on_ready(index))  # type: ignore[misc]
        pairs[index][1].send(b"x")
    loop.turn()
    assert len(seen) == 1
    for pair in pairs:
        for end in pair:
            end.close()


def test_signals_arrive_as_calls_of_the_loop(loop: Loop) -> None:
    """A handler runs between events, never inside one."""
    seen: list[str] = []
    old = signal.getsignal(signal.SIGUSR1)
    try:
        loop.on_signal(signal.SIGUSR1, lambda: (seen.append("signal"), loop.stop(0))[1])
        assert threading.current_thread() is threading.main_thread()
        loop.after(0, lambda: (os.kill(os.getpid(), signal.SIGUSR1), seen.append("event"))[1])
        assert loop.run() == 0
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert seen == ["event", "signal"]
