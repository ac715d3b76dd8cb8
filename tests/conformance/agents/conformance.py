"""The fixture agent of the conformance suite in Python; its skills are the same in every language."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from pydantic import Field

from sutazai.errors import NonRetryableError, SkillError
from sutazai.runtime import Agent, Context, Result, Wait

agent = Agent("conformance")


@agent.skill
def echo(value: Any) -> dict[str, Any]:
    """Give back what came."""
    return {"value": value}


@agent.skill
def fan(parts: int, ctx: Context) -> Wait[dict[str, Any]]:
    """Ask itself that many times and collect."""
    calls = [ctx.call("conformance", "echo", {"value": number}) for number in range(parts)]
    return Wait(calls, then="collect", carry={"parts": parts})


@agent.step
def collect(results: list[Result], carry: dict[str, Any]) -> dict[str, Any]:
    """Put the answers together."""
    values = [result.require()["value"] for result in results]
    return {"ids": [result.task for result in results], "values": values, **carry}


@agent.skill
def remember(value: Any, ctx: Context) -> dict[str, Any]:
    """Append to the session's state."""
    ctx.state["values"] = [*ctx.state.get("values", []), value]
    return {"values": ctx.state["values"]}


@agent.skill
async def steps(count: int, ms: int, ctx: Context) -> dict[str, Any]:
    """Count in the state with a checkpoint after each step, then work for a while."""
    while ctx.state.get("done", 0) < count:
        ctx.state["done"] = ctx.state.get("done", 0) + 1
        ctx.checkpoint()
    await asyncio.sleep(ms / 1_000)
    return {"done": ctx.state["done"], "attempt": ctx.task.attempt}


@agent.skill
def fail(*, for_good: bool) -> dict[str, Any]:
    """Fail, for good or not."""
    raise NonRetryableError("for good") if for_good else SkillError("this time")


@agent.skill
def strict(number: Annotated[int, Field(ge=1, le=5)]) -> dict[str, Any]:
    """Take a number from 1 to 5."""
    return {"number": number}


@agent.skill
async def slow(ms: int, ctx: Context) -> dict[str, Any]:
    """Wait, and say how far it is."""
    ctx.progress(0.5, "half way")
    await asyncio.sleep(ms / 1_000)
    return {"ms": ms}


@agent.skill
def busy(ms: int) -> dict[str, Any]:
    """Hold its thread without a pause."""
    until = time.monotonic() + ms / 1_000
    while time.monotonic() < until:
        pass
    return {"ms": ms}


@agent.skill
def large(bytes: int) -> str:  # noqa: A002 the name of the suite's field
    """Give that many bytes."""
    return "x" * bytes


@agent.skill
def gather(bytes: int, ctx: Context) -> Wait[dict[str, Any]]:  # noqa: A002 the name of the suite's field
    """Ask itself for that many bytes and measure."""
    return Wait([ctx.call("conformance", "large", {"bytes": bytes})], then="measure")


@agent.step
def measure(results: list[Result]) -> dict[str, Any]:
    """Say how many came."""
    return {"bytes": len(results[0].require())}
