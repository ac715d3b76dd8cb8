"""Why it exists: every driver of dispatch keeps the same promises: each due task is looked for, none is given twice.

A test module makes a class out of ``DispatchContract`` that says how to open a driver; pytest runs its methods.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sutazai.store.sqlite import SqliteStore
from sutazai.testing.dispatch_rig import DispatchRig
from sutazai.testing.store_contract import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sutazai.bus.dispatch.protocol import Driver

_MANY = 60
_AGENTS = ("one", "two", "three")


class DispatchContract:
    """All tests for a driver; ``driver`` is to be given."""

    def driver(self) -> Driver:
        """A driver that nobody uses; every call gives one for the same fleet.

        Raises:
            TypeError: the test class does not say how.
        """
        raise TypeError("a test class of DispatchContract says in `driver` how to make one")

    def play(self, scene: Callable[[DispatchRig], Awaitable[None]], store: SqliteStore | None = None) -> None:
        """Live through a scene with a new driver."""

        async def live() -> None:
            async with DispatchRig(self.driver(), store) as rig:
                await scene(rig)

        asyncio.run(live())

    def test_an_idle_instance_is_given_what_becomes_ready(self) -> None:
        """It waits first, and the task comes."""

        async def scene(rig: DispatchRig) -> None:
            echo = rig.instance("one")
            tasks = rig.submit("one")
            await rig.until(lambda: rig.are(tasks, "succeeded"), "the task is done")
            expect(echo.turns, tasks, "the turns")

        self.play(scene)

    def test_an_instance_that_comes_later_finds_what_waits(self) -> None:
        """The tasks wait first; their end needs no further word of anybody."""

        async def scene(rig: DispatchRig) -> None:
            tasks = rig.submit("one", 3)
            await rig.until(lambda: rig.store.counts.of("one").ready == len(tasks), "they are stored")
            rig.instance("one")
            await rig.until(lambda: rig.are(tasks, "succeeded"), "the tasks are done")

        self.play(scene)

    def test_every_task_of_many_agents_is_given_once(self) -> None:
        """A burst for several agents with several instances each: all end, each after one turn."""

        async def scene(rig: DispatchRig) -> None:
            people = [rig.instance(agent) for agent in _AGENTS for _ in range(3)]
            tasks = [task for agent in _AGENTS for task in rig.submit(agent, _MANY)]
            await rig.until(lambda: rig.are(tasks, "succeeded"), "all tasks are done")
            turns = [task for echo in people for task in echo.turns]
            expect(sorted(turns), sorted(tasks), "each task had one turn")

        self.play(scene)

    def test_what_was_ready_before_the_start_is_found(self) -> None:
        """A broker that starts on a store with due tasks needs no news to work on them."""
        store = SqliteStore(None, ballast_bytes=0)
        tasks: list[str] = []

        async def before(rig: DispatchRig) -> None:
            tasks.extend(rig.submit("one", 5))
            await rig.until(lambda: store.counts.of("one").ready == len(tasks), "they are stored")

        async def after(rig: DispatchRig) -> None:
            rig.instance("one")
            await rig.until(lambda: rig.are(tasks, "succeeded"), "the tasks are done")

        self.play(before, store)
        self.play(after, store)

    def test_an_agent_without_an_instance_keeps_nobody_busy(self) -> None:
        """Due tasks that nobody can take make no groups, and hold nobody else up."""

        async def scene(rig: DispatchRig) -> None:
            waiting = rig.submit("one", 5)
            rig.instance("two")
            done = rig.submit("two", 2)
            await rig.until(lambda: rig.are(done, "succeeded"), "the other agent's tasks are done")
            await rig.until(lambda: not rig.broker.journal.pending, "nothing is left to do")
            expect((rig.broker.has_work(), rig.are(waiting, "queued")), (False, True), "work, and the tasks")

        self.play(scene)

    def test_tasks_that_ended_otherwise_leave_no_turn_behind(self) -> None:
        """What was cancelled while it waited is given to nobody, and what comes after it is."""

        async def scene(rig: DispatchRig) -> None:
            gone = rig.submit("one", 5)
            await rig.until(lambda: rig.store.counts.of("one").ready == len(gone), "they are stored")
            for task in gone:
                rig.ask({"t": "cancel", "id": 1, "task": task})
            await rig.until(lambda: rig.are(gone, "cancelled"), "they are cancelled")
            echo = rig.instance("one")
            tasks = rig.submit("one", 2)
            await rig.until(lambda: rig.are(tasks, "succeeded"), "the later tasks are done")
            expect(sorted(echo.turns), sorted(tasks), "the turns")

        self.play(scene)

    def test_a_session_runs_in_order_with_many_instances(self) -> None:
        """A task that becomes ready by the end of another one is looked for, too."""

        async def scene(rig: DispatchRig) -> None:
            people = [rig.instance("one") for _ in range(3)]
            tasks = rig.submit("one", 8, session="s")
            order: list[str] = []
            for echo in people:
                echo.turns = order
            await rig.until(lambda: rig.are(tasks, "succeeded"), "the session is done")
            expect(order, tasks, "the order")

        self.play(scene)

    def test_a_turn_that_is_lost_is_looked_for_again(self) -> None:
        """Its instance goes away; another one gets the task."""

        async def scene(rig: DispatchRig) -> None:
            first = rig.instance("one", holds=True)
            tasks = rig.submit("one")
            await rig.until(lambda: first.turns == tasks, "the first instance has it")
            rig.leave(first)
            second = rig.instance("one")
            await rig.until(lambda: rig.are(tasks, "succeeded"), "it is done")
            expect(second.turns, tasks, "the second instance's turns")

        self.play(scene)

    def test_work_goes_on_when_the_driver_ends(self) -> None:
        """Whatever the driver was connected to is gone: tasks of before and after it are done, each once."""

        async def scene(rig: DispatchRig) -> None:
            tasks = rig.submit("one", _MANY)
            people = [rig.instance("one") for _ in range(2)]
            await rig.until(lambda: sum(len(echo.turns) for echo in people) > _MANY // 4, "some are done")
            await rig.stop_driver()
            tasks += rig.submit("one", _MANY)
            await rig.until(lambda: rig.are(tasks, "succeeded"), "all are done")
            expect(sorted(task for echo in people for task in echo.turns), sorted(tasks), "each had one turn")

        self.play(scene)
