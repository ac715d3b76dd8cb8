"""Why it exists: a heavy import is paid once a family, not once an instance: a zygote imports it and *warms* it.

Importing is not enough. What a library builds at its first use (a validator, a selector, a codec) would be built again
in each child: ten times slower and more than twice the memory. So each family also does, before the first fork, a
little of what its agents will do. This list is all there is; a family is data, not a plug-in.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Family:
    """A set of modules that agents of one kind share.

    Attributes:
        name: as in an agent's manifest.
        modules: imported in this order.
        warm: does once what the agents will do; empty of side effects.
        text: who it is for.
    """

    name: str
    modules: tuple[str, ...]
    warm: Callable[[], None]
    text: str


def _warm_base() -> None:
    _warm_skill()
    _warm_frames()
    _warm_loop()
    _warm_text()


def _warm_skill() -> None:
    from typing import Annotated, Any

    from pydantic import BaseModel, Field, ValidationError

    from sutazai.runtime.context import Context, Surroundings
    from sutazai.runtime.execute import describe_error, execute
    from sutazai.runtime.flow import Result, Wait
    from sutazai.runtime.skill import Agent
    from sutazai.runtime.turn import TaskInfo, Turn

    class Part(BaseModel):
        name: str = Field(min_length=1)
        share: float = Field(default=0.5, ge=0, le=1)

    agent = Agent("warm")

    @agent.skill
    def warm(
        name: Annotated[str, Field(description="any")],
        parts: list[Part],
        ctx: Context,
        more: dict[str, int] | None = None,
    ) -> Part | Wait[Part]:
        """Warm what a skill needs."""
        ctx.call("warm", "warm", {"name": name})
        return parts[0] if more is None else Wait([ctx.call("warm", "warm", {})], then=then, carry={})

    @agent.step
    def then(results: list[Result], carry: dict[str, Any]) -> Part:
        """Warm what a step needs."""
        return Part(name=str(len(results) + len(carry)))

    def run(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return function(**arguments)

    agent.describe()
    for data in (
        {"name": "a", "parts": [{"name": "b"}]},
        {"name": "a", "parts": [{"name": "b"}], "more": {"c": 1}},
        {},
    ):
        turn = Turn(TaskInfo("t_warm", "warm", "warm", session="s"), data, 1, 1e12, 1, state={})
        execute(agent, turn, Context(turn, Surroundings()), run)
    try:
        Part.model_validate({})
    except ValidationError as error:
        describe_error(error)


def _warm_frames() -> None:
    import socket

    from sutazai.wire.frames import Decoder, encode
    from sutazai.wire.messages import check
    from sutazai.wire.transport import BlockingConnection

    list(Decoder().feed(encode({"t": "warm", "number": 1.5, "text": "ä"}, [b"x"])))
    left, right = socket.socketpair()
    with BlockingConnection(left) as first, BlockingConnection(right) as second:
        first.send({"t": "turn", "task": {}, "fence": 1, "lease_ms": 1, "deadline_left_ms": 1})
        if (incoming := second.receive(1.0)) is not None:
            check(incoming[0], "broker")


def _warm_loop() -> None:
    import asyncio

    async def nothing() -> None:
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(nothing())
    finally:
        loop.close()


def _warm_text() -> None:
    import json
    import random

    json.loads(json.dumps({"warm": [1, 2.5, None, "ä"]}, default=str))
    random.seed()


def _warm_data() -> None:
    import warnings

    import numpy as np
    import pandas as pd  # type: ignore[import-untyped]
    from scipy import stats
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    values = np.arange(32, dtype=float)
    stats.linregress(values, values * 2 + 1)
    stats.theilslopes(values, values)
    stats.norm.ppf(0.95)
    float(np.median(values) + np.quantile(values, 0.9) + values.std())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a straight line makes the optimiser complain
        fitted = ETSModel(pd.Series(values), error="add", trend="add").fit(disp=False, maxiter=5)
        fitted.get_prediction(start=32, end=33).summary_frame(alpha=0.1)


_BASE_MODULES = (
    "msgspec",
    "pydantic",
    "pydantic.fields",
    "asyncio",
    "json",
    "random",
    "traceback",
    "tempfile",
    "http.client",
    "urllib.parse",
    "sutazai.runtime",
    "sutazai.runtime.activation",
    "sutazai.runtime.evidence",
    "sutazai.runtime.execute",
    "sutazai.runtime.forking",
    "sutazai.runtime.loader",
    "sutazai.client",
)

FAMILIES: tuple[Family, ...] = (
    Family("base", _BASE_MODULES, _warm_base, "every agent: the runtime, pydantic, an event loop, plain HTTP"),
    Family(
        "data",
        ("numpy", "scipy.stats", "pandas", "statsmodels.tsa.exponential_smoothing.ets"),
        _warm_data,
        "agents that compute: numpy, scipy, pandas, forecasting of time series",
    ),
)


def family(name: str) -> Family:
    """Find a family.

    Raises:
        ConfigError: there is none of this name.
    """
    for candidate in FAMILIES:
        if candidate.name == name:
            return candidate
    known = ", ".join(candidate.name for candidate in FAMILIES)
    raise ConfigError(f"there is no family {name!r}", hint=f"the families are {known}")


def preload(names: Sequence[str], modules: Sequence[str] = ()) -> list[str]:
    """Import and warm families, and import modules beyond them.

    Returns:
        What could not be had, a line each: an agent that needs it will fail to import it, the others work.
    """
    missing: list[str] = []
    for name in names:
        chosen = family(name)
        try:
            for module in chosen.modules:
                importlib.import_module(module)
            chosen.warm()
        except ImportError as error:
            missing.append(f"family {name}: {error}")
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            missing.append(f"{module}: {error}")
    return missing
