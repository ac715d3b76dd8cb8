"""A skill's declaration: what is read from it, what schemas it gives, and which mistakes it names."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from sutazai.errors import ConfigError
from sutazai.runtime import Agent, Call, Context, Result, Wait
from sutazai.runtime.context import Surroundings
from sutazai.runtime.schema import read_docstring, without_waits
from sutazai.runtime.turn import TaskInfo, Turn


class Order(BaseModel):
    """A whole input."""

    item: str = Field(min_length=1)
    count: int = 1


class Receipt(BaseModel):
    """A result."""

    total: float


def context(data: Any = None) -> Context:
    """Make a context without a fleet."""
    return Context(Turn(TaskInfo("t_1", "a", "s"), data, 1, 1e12, 1_000), Surroundings())


def test_parameters_become_the_input() -> None:
    """Names, types, defaults, bounds and texts of parameters stand in the schema; the context does not."""
    agent = Agent("a")

    @agent.skill
    def price(
        item: str,
        ctx: Context,
        count: Annotated[int, Field(ge=1, le=9, description="how many")] = 1,
        tags: list[str] | None = None,
    ) -> Receipt:
        """Compute a price,
        with tax.

        More that is not said to callers.

        Args:
            item: name of the thing,
                as in the catalogue.
            count: not used, the Field says it.
            tags (list): free words.

        Returns:
            The receipt.
        """  # noqa: D205 a paragraph of two lines is what is tested
        return Receipt(total=1)

    described = agent.describe()
    assert described["name"] == "a"
    (skill,) = described["skills"]
    assert (skill["name"], skill["description"]) == ("price", "Compute a price, with tax.")
    properties = skill["input"]["properties"]
    assert list(properties) == ["item", "count", "tags"]
    assert skill["input"]["required"] == ["item"]
    assert skill["input"]["additionalProperties"] is False
    assert properties["item"]["description"] == "name of the thing, as in the catalogue."
    assert (properties["count"]["description"], properties["count"]["maximum"]) == ("how many", 9)
    assert properties["tags"]["description"] == "free words."
    assert skill["output"]["properties"] == {"total": {"title": "Total", "type": "number"}}


def test_arguments_are_validated() -> None:
    """An input becomes typed arguments with the context among them, or a validation error."""
    agent = Agent("a")

    @agent.skill
    def price(ctx: Context, parts: list[Order], factor: float = 2.0) -> float:
        """Compute."""
        return factor

    skill, ctx = agent.skills["price"], context()
    arguments = skill.arguments({"parts": [{"item": "x"}]}, ctx)
    assert arguments == {"parts": [Order(item="x")], "factor": 2.0, "ctx": ctx}
    for wrong in ({}, {"parts": [{"item": ""}]}, {"parts": [], "more": 1}, None, [], "x"):
        with pytest.raises(ValidationError):
            skill.arguments(wrong, ctx)


def test_a_single_model_is_the_whole_input() -> None:
    """One required model is the input itself; with a default or beside another it is a parameter like any other."""
    agent = Agent("a")

    @agent.skill
    def whole(order: Order, ctx: Context) -> int:
        """Take an order."""
        return order.count

    @agent.skill
    def part(order: Order, now: bool) -> int:  # noqa: FBT001 a skill's parameter
        """Take an order."""
        return order.count

    assert "item" in agent.skills["whole"].input_model.model_json_schema()["properties"]
    assert agent.skills["whole"].arguments({"item": "x"}, context())["order"] == Order(item="x")
    assert set(agent.skills["part"].input_model.model_json_schema()["properties"]) == {"order", "now"}


def test_parameters_named_like_methods_of_a_model() -> None:
    """``json``, ``schema`` or ``copy`` are good names for parameters; pydantic's methods do not get in the way."""
    agent = Agent("a")

    @agent.skill
    def odd(json: str, schema: int, copy: str = "c", model_name: str = "m") -> str:
        """Take odd names."""
        return json

    assert agent.skills["odd"].arguments({"json": "j", "schema": 1}, context()) == {
        "json": "j",
        "schema": 1,
        "copy": "c",
        "model_name": "m",
    }


def test_a_skill_without_parameters() -> None:
    """No parameters mean an empty object; the function itself stays callable."""
    agent = Agent("a")

    @agent.skill
    async def nothing() -> None:
        """Do nothing."""

    assert agent.skills["nothing"].arguments({}, context()) == {}
    assert agent.skills["nothing"].is_async
    assert agent.skills["nothing"].describe()["output"] == {"type": "null"}
    assert asyncio.run(nothing()) is None


def test_waits_are_taken_out_of_the_result() -> None:
    """The schema of a result is the type in the end, whatever waits come before it."""
    assert without_waits(Wait[Receipt]) is Receipt
    assert without_waits(Receipt | Wait[Receipt]) == Receipt | Receipt
    assert without_waits(Receipt | Wait) is Receipt  # type: ignore[type-arg]
    assert without_waits(Wait) is Any
    assert without_waits(int | str) == int | str
    assert without_waits(int | None | Wait[str]) == int | None | str


def _no_type(name) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Say."""
    return str(name)


def _no_result(name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Say."""


def _no_docstring(name: str) -> str:
    return name


def _stars(*names: str) -> str:
    """Say."""
    return ""


def _double_stars(**names: str) -> str:
    """Say."""
    return ""


def _hidden(_name: str) -> str:
    """Say."""
    return ""


def _config(model_config: str) -> str:
    """Say."""
    return ""


def _unknown(name: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821
    """Say."""
    return ""


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (_no_type, "'name' has no type.*write name: str"),
        (_no_result, "the result has no type"),
        (_no_docstring, "no docstring"),
        (_stars, "write each parameter out"),
        (_double_stars, "write each parameter out"),
        (_hidden, "cannot be called"),
        (_config, "cannot be called"),
        (_unknown, "'Nowhere', which is not defined"),
    ],
)
def test_bad_declarations_name_their_place(function: Any, text: str) -> None:
    """Each mistake of a declaration is an error at import, with file, line, and what to write."""
    with pytest.raises(ConfigError, match=text) as caught:
        Agent("a").skill(function)
    assert caught.value.path == __file__
    assert caught.value.line == function.__code__.co_firstlineno
    assert caught.value.hint


def test_duplicates_are_refused() -> None:
    """An agent has one skill and one step of a name."""
    agent = Agent("a")

    def twice() -> str:
        """Say."""
        return ""

    agent.skill(twice)
    agent.step(twice)
    with pytest.raises(ConfigError, match="two skills"):
        agent.skill(twice)
    with pytest.raises(ConfigError, match="two steps"):
        agent.step(twice)


def test_a_type_without_schema_is_named() -> None:
    """A type that JSON does not know is an error when the agent is described, with the skill's place."""
    agent = Agent("a")

    class Odd:
        pass

    @agent.skill
    def odd(name: str) -> Odd:
        """Say."""
        return Odd()

    with pytest.raises(ConfigError, match="no JSON schema"):
        agent.describe()
    with pytest.raises(ConfigError, match="no skill"):
        Agent("b").describe()


def test_steps_take_results_and_carry() -> None:
    """A step gets what it asks for by name; the carry is validated when it has a model for it."""
    agent = Agent("a")

    @agent.step
    def full(ctx: Context, results: list[Result], carry: Order) -> Receipt:
        """Go on."""
        return Receipt(total=carry.count)

    @agent.step
    def bare() -> Receipt:
        """Go on."""
        return Receipt(total=0)

    results = [Result("t_2", "b", "s", "succeeded", 1)]
    ctx = context()
    assert agent.steps["full"].arguments(results, {"item": "x", "count": 3}, ctx) == {
        "ctx": ctx,
        "results": results,
        "carry": Order(item="x", count=3),
    }
    assert agent.steps["bare"].arguments(results, {}, ctx) == {}
    with pytest.raises(ValidationError):
        agent.steps["full"].arguments(results, {}, ctx)


def test_steps_have_no_other_parameters() -> None:
    """A step's parameters are known; others, and results of another type, are errors at import."""

    def other(name: str) -> int:
        """Go on."""
        return 0

    def untyped(results: list[str]) -> int:
        """Go on."""
        return 0

    with pytest.raises(ConfigError, match="no parameter name"):
        Agent("a").step(other)
    with pytest.raises(ConfigError, match="results: list"):
        Agent("a").step(untyped)


def test_docstrings_without_sections() -> None:
    """A bare docstring and an empty one are understood."""
    assert read_docstring("Do it.") == ("Do it.", {})
    assert read_docstring("") == ("", {})


def test_wait_names_its_step() -> None:
    """``then`` is a function or its name."""

    def go_on() -> None:
        pass

    call = Call("t_1", "a", "s", {})
    assert Wait([call], then=go_on).step == "go_on"
    assert Wait([call], then="go_on").step == "go_on"
