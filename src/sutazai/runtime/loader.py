"""Why it exists: an agent's code is a folder or a file anywhere on the disk; it is imported, and refused, in one way.

An agent inside this package keeps its dotted name, so that it may import its neighbours by it. For others the folder
is put onto the import path, so that ``agent.py`` may import the modules beside it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import ConfigError, ConfigErrors
from sutazai.runtime.skill import Agent

if TYPE_CHECKING:
    from types import ModuleType

AGENT_FILE = "agent.py"
_PACKAGE = Path(__file__).resolve().parents[1]


def agent_file(path: Path) -> Path:
    """Find the file with the agent: the path itself, or ``agent.py`` in the folder.

    Raises:
        ConfigError: there is no such file.
    """
    file = path / AGENT_FILE if path.is_dir() else path
    if not file.is_file():
        hint = f"an agent's folder holds {AGENT_FILE}" if path.is_dir() else "give a folder with agent.py, or a file"
        raise ConfigError(f"there is no file {file}", path=str(path), hint=hint)
    if file.suffix != ".py":
        raise ConfigError("an agent's file ends in .py", path=str(file), hint="rename it")
    return file


def load_agent(path: Path, name: str = "") -> Agent:
    """Import an agent's code.

    Args:
        path: a folder with ``agent.py``, or a file.
        name: the agent's name in the manifest; empty takes any.

    Raises:
        ConfigError: no file, no ``Agent`` or several in it, another name, a wrong declaration.
        Exception: whatever the module raises while it is imported.
    """
    file = agent_file(Path(path).absolute())
    module = _import(file)
    found = {id(value): value for value in vars(module).values() if isinstance(value, Agent)}
    if not found:
        raise ConfigError("there is no Agent in the module", path=str(file), hint='write agent = Agent("name")')
    if len(found) > 1:
        names = ", ".join(sorted(agent.name for agent in found.values()))
        raise ConfigError(
            f"there are several agents in the module: {names}", path=str(file), hint="one file, one agent"
        )
    (agent,) = found.values()
    if name and agent.name != name:
        raise ConfigError(
            f"the agent is called {agent.name!r} in the code and {name!r} in the manifest",
            path=str(file),
            hint="use one name",
        )
    return agent


def _import(file: Path) -> ModuleType:
    inside = file.resolve()
    if inside.is_relative_to(_PACKAGE):
        parts = inside.relative_to(_PACKAGE.parent).with_suffix("").parts
        return importlib.import_module(".".join(parts))
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"sutazai_agent_{file.parent.name if file.name == AGENT_FILE else file.stem}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError("the file cannot be imported", path=str(file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks up types by their module's name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def explain(error: BaseException, path: Path) -> str:
    """Say in one line why an agent could not be imported, with the place in its own code."""
    if isinstance(error, (ConfigError, ConfigErrors)):
        return str(error)
    place = str(path)
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    else:
        step = error.__traceback__
        while step is not None:
            file = step.tb_frame.f_code.co_filename
            if file.startswith(str(path)) or Path(file).parent == path.parent:
                place = f"{file}:{step.tb_lineno}"
            step = step.tb_next
    return f"{place}: {type(error).__name__}: {error}"
