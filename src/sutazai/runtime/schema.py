"""Why it exists: a skill is declared once, as a typed function; its schemas and its validation come out of that.

A mistake in a declaration is a ``ConfigError`` with the function's file and line when the module is imported. The
pydantic models are built when they are first needed: an instance that wakes for one skill builds that one only.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model
from pydantic.fields import FieldInfo

from sutazai.errors import ConfigError
from sutazai.runtime.context import Context
from sutazai.runtime.flow import Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SECTION = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Note|Notes|Example|Examples|Attributes):\s*$")
_ARGUMENT = re.compile(r"^(?P<indent>\s+)\*{0,2}(?P<name>\w+)(?:\s*\([^)]*\))?:\s*(?P<text>.*)$")
_RESERVED = frozenset({"model_config", "model_fields", "model_computed_fields"})


@dataclass(frozen=True, slots=True)
class Declared:
    """What a function's signature and docstring say.

    Attributes:
        context: name of the parameter that takes the context, empty when there is none.
        fields: the other parameters: annotation and default (``...`` when it has none).
        whole: the one parameter that is a model of its own and so is the whole input; empty when there is none.
        returns: what the task's result is, the waits taken out.
        description: first paragraph of the docstring.
        texts: what the docstring says of each parameter.
    """

    context: str
    fields: dict[str, tuple[Any, Any]]
    whole: str
    returns: Any
    description: str
    texts: dict[str, str] = field(default_factory=dict)


def mistake(function: Callable[..., Any], problem: str, hint: str) -> ConfigError:
    """Make the error of a wrong declaration, with the function's place."""
    code = getattr(function, "__code__", None)
    path, line = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
    name = getattr(function, "__name__", str(function))
    return ConfigError(f"{name}: {problem}", path=path, line=line, hint=hint)


def read_declaration(function: Callable[..., Any], local_names: Mapping[str, Any]) -> Declared:
    """Read a skill's or a step's declaration.

    Args:
        function: the decorated one.
        local_names: names at the place of the decorator, for annotations that are text.

    Raises:
        ConfigError: a parameter or the result has no annotation, ``*args`` or ``**kwargs``, no docstring, or an
            annotation that cannot be understood.
    """
    hints = _hints(function, local_names)
    context, parameters = "", {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise mistake(
                function, f"the parameter {parameter} has no name that a caller can use", "write each parameter out"
            )
        if name not in hints:
            raise mistake(function, f"the parameter {name!r} has no type", f"write {name}: str, or another type")
        if hints[name] is Context:
            context = name
        elif name.startswith("_") or name in _RESERVED:
            raise mistake(function, f"the parameter cannot be called {name!r}", "choose another name")
        else:
            parameters[name] = (hints[name], ... if parameter.default is parameter.empty else parameter.default)
    if "return" not in hints:
        raise mistake(function, "the result has no type", "write -> str, or another type, before the colon")
    description, texts = read_docstring(function.__doc__ or "")
    if not description:
        raise mistake(function, "there is no docstring", "say in one sentence what it does, for people and for models")
    return Declared(context, parameters, _whole(parameters), without_waits(hints["return"]), description, texts)


def _hints(function: Callable[..., Any], local_names: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, localns=dict(local_names), include_extras=True)
    except NameError as error:
        raise mistake(
            function,
            f"an annotation uses {error.name!r}, which is not defined here",
            "define or import it above the function, outside of `if TYPE_CHECKING`",
        ) from error
    except TypeError as error:
        raise mistake(function, f"an annotation is no type: {error}", "use a type") from error


def _whole(parameters: dict[str, tuple[Any, Any]]) -> str:
    """Name the parameter that is the whole input: the only one, required, and a model."""
    if len(parameters) != 1:
        return ""
    ((name, (annotation, default)),) = parameters.items()
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return name if is_model and default is ... else ""


def without_waits(annotation: Any) -> Any:
    """Take ``Wait[X]`` and ``X | Wait`` apart: what is left is the type of the result in the end.

    A bare ``Wait`` says nothing of the result, so it becomes ``Any``.
    """
    if annotation is Wait:
        return Any
    origin = typing.get_origin(annotation)
    if origin is Wait:
        return typing.get_args(annotation)[0]
    if origin not in {typing.Union, types.UnionType}:
        return annotation
    members = typing.get_args(annotation)
    kept = [member for member in members if member is not Wait and typing.get_origin(member) is not Wait]
    kept += [typing.get_args(member)[0] for member in members if typing.get_origin(member) is Wait]
    if not kept:
        return Any
    return kept[0] if len(kept) == 1 else typing.Union[tuple(kept)]  # noqa: UP007 the members are a list


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Take a Google-style docstring apart.

    Returns:
        Its first paragraph in one line, and what its ``Args`` section says of each parameter.
    """
    lines = inspect.cleandoc(text).splitlines()
    paragraph: list[str] = []
    for line in lines:
        if not line.strip() or _SECTION.match(line):
            break
        paragraph.append(line.strip())
    return " ".join(paragraph), _arguments(lines)


def _arguments(lines: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    inside, indent, current = False, "", ""
    for line in lines:
        if section := _SECTION.match(line):
            inside = section[1] in {"Args", "Arguments"}
            continue
        if not inside or not line.strip():
            continue
        match = _ARGUMENT.match(line)
        if match and (not indent or match["indent"] == indent):
            indent, current = match["indent"], match["name"]
            texts[current] = match["text"].strip()
        elif current:
            texts[current] = f"{texts[current]} {line.strip()}".strip()
    return texts


def build_input(name: str, declared: Declared) -> type[BaseModel]:
    """Make the model of a skill's input."""
    if declared.whole:
        whole: type[BaseModel] = declared.fields[declared.whole][0]
        return whole
    fields = {
        parameter: (_described(annotation, declared.texts.get(parameter, "")), default)
        for parameter, (annotation, default) in declared.fields.items()
    }
    config = ConfigDict(extra="forbid", protected_namespaces=(), arbitrary_types_allowed=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a parameter may be called like a method of a model
        model: type[BaseModel] = create_model(name, __config__=config, **fields)  # type: ignore[call-overload]
    return model


def _described(annotation: Any, text: str) -> Any:
    """Add the docstring's words to an annotation whose ``Field`` has none."""
    if not text:
        return annotation
    extras = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is Annotated else ()
    if any(isinstance(extra, FieldInfo) and extra.description for extra in extras):
        return annotation
    return Annotated[annotation, FieldInfo(description=text)]


def build_output(declared: Declared) -> TypeAdapter[Any]:
    """Make the judge of a skill's result."""
    return TypeAdapter(declared.returns)
