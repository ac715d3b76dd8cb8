"""Why it exists: an agent is a plain module: an ``Agent``, functions marked as its skills, functions marked as steps.

``@agent.skill`` reads the function's signature and docstring; every door to the skill (HTTP, command line, other
agents) is made from that. The functions stay what they were and can be called in a test.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from sutazai.errors import ConfigError
from sutazai.runtime.flow import Result
from sutazai.runtime.schema import Declared, build_input, build_output, mistake, read_declaration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel, TypeAdapter

    from sutazai.runtime.context import Context

F = TypeVar("F", bound="Callable[..., Any]")


class Skill:
    """A skill of an agent.

    Attributes:
        name: of the function.
        function: as it was declared.
        declared: what its signature and docstring say.
        is_async: whether it runs on the event loop.
    """

    def __init__(self, function: Callable[..., Any], declared: Declared) -> None:
        self.name: str = function.__name__
        self.function = function
        self.declared = declared
        self.is_async = inspect.iscoroutinefunction(function)

    @cached_property
    def input_model(self) -> type[BaseModel]:
        """The pydantic model of its input, built when it is first needed."""
        return build_input(self.name, self.declared)

    @cached_property
    def output(self) -> TypeAdapter[Any]:
        """The judge of its result, built when it is first needed."""
        return build_output(self.declared)

    def build(self) -> None:
        """Build both now; a type that cannot be built shows when it is needed."""
        with contextlib.suppress(Exception):
            self.input_model  # noqa: B018 a cached property
            self.output  # noqa: B018

    def arguments(self, data: Any, context: Context) -> dict[str, Any]:
        """Validate an input and make the function's arguments of it.

        Raises:
            pydantic.ValidationError: the input does not fit.
        """
        value = self.input_model.model_validate(data)
        if self.declared.whole:
            arguments: dict[str, Any] = {self.declared.whole: value}
        else:
            arguments = {name: value.__dict__[name] for name in self.declared.fields}
        if self.declared.context:
            arguments[self.declared.context] = context
        return arguments

    def describe(self) -> dict[str, Any]:
        """Write it as ``{name, description, input, output}`` with JSON schemas.

        Raises:
            ConfigError: a type has no JSON schema.
        """
        try:
            schemas = self.input_model.model_json_schema(), self.output.json_schema(mode="serialization")
        except Exception as error:
            raise mistake(
                self.function, f"a type has no JSON schema: {_first_line(error)}", "use JSON types"
            ) from error
        return {
            "name": self.name,
            "description": self.declared.description,
            "input": schemas[0],
            "output": schemas[1],
        }


class Step:
    """A continuation: what runs when the calls of a ``Wait`` are done.

    Attributes:
        name: of the function.
        function: as it was declared.
        declared: what its signature and docstring say.
        is_async: whether it runs on the event loop.
    """

    def __init__(self, function: Callable[..., Any], declared: Declared) -> None:
        self.name: str = function.__name__
        self.function = function
        self.declared = declared
        self.is_async = inspect.iscoroutinefunction(function)

    @cached_property
    def carry(self) -> TypeAdapter[Any]:
        """The judge of what the wait carried."""
        from pydantic import TypeAdapter

        return TypeAdapter(self.declared.fields["carry"][0])

    def arguments(self, results: list[Result], carry: Any, context: Context) -> dict[str, Any]:
        """Make the function's arguments.

        Raises:
            pydantic.ValidationError: the carry does not fit the step's annotation.
        """
        arguments: dict[str, Any] = {}
        if "results" in self.declared.fields:
            arguments["results"] = results
        if "carry" in self.declared.fields:
            arguments["carry"] = self.carry.validate_python(carry)
        if self.declared.context:
            arguments[self.declared.context] = context
        return arguments


class Agent:
    """A named set of skills.

    Args:
        name: equal to the name in the agent's manifest.

    Attributes:
        name: as given.
        skills: by name.
        steps: by name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.skills: dict[str, Skill] = {}
        self.steps: dict[str, Step] = {}

    def skill(self, function: F) -> F:
        """Mark a function as a skill: ``@agent.skill``.

        Its parameters are the input (one that is annotated with ``Context`` gets the context; a single required
        pydantic model is the whole input), its annotation of the result is the output, its docstring the description.

        Raises:
            ConfigError: the declaration lacks something or is there twice; says what to write.
        """
        declared = read_declaration(function, _names_there())
        if function.__name__ in self.skills:
            raise mistake(function, f"{self.name} has two skills of this name", "rename one")
        self.skills[function.__name__] = Skill(function, declared)
        return function

    def step(self, function: F) -> F:
        """Mark a function as a step that a ``Wait`` goes on with: ``@agent.step``.

        It may have three parameters: one annotated with ``Context``, ``results: list[Result]`` and ``carry``.

        Raises:
            ConfigError: the declaration lacks something, has other parameters, or is there twice.
        """
        declared = read_declaration(function, _names_there())
        if wrong := sorted(set(declared.fields) - {"results", "carry"}):
            raise mistake(
                function,
                f"a step has no parameter {', '.join(wrong)}",
                "its parameters are ctx: Context, results: list[Result] and carry: dict",
            )
        if declared.fields.get("results", (list[Result],))[0] != list[Result]:
            raise mistake(function, "results is a list of Result", "write results: list[Result]")
        if function.__name__ in self.steps:
            raise mistake(function, f"{self.name} has two steps of this name", "rename one")
        self.steps[function.__name__] = Step(function, declared)
        return function

    def describe(self) -> dict[str, Any]:
        """Write it as ``{name, skills: [{name, description, input, output}]}``.

        Raises:
            ConfigError: it has no skill, or a skill's type has no JSON schema.
        """
        if not self.skills:
            raise ConfigError(f"the agent {self.name!r} has no skill", hint="mark a function with @agent.skill")
        return {"name": self.name, "skills": [skill.describe() for skill in self.skills.values()]}


def _names_there() -> Mapping[str, Any]:
    """Names at the place of the decorator, two frames up: annotations may be text, and types may be local."""
    return sys._getframe(2).f_locals  # noqa: SLF001 the documented way to them


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
