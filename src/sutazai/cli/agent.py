"""Why it exists: a new agent begins as a folder that runs and passes its checks, not as an empty file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sutazai.cli.agent_template import files_of
from sutazai.cli.down import JsonOption
from sutazai.cli.exits import REFUSED, CliError
from sutazai.cli.output import print_json
from sutazai.errors import HostError
from sutazai.limits import NAME_CHARACTERS_MAX

run = typer.Typer(help="Make agents.", no_args_is_help=True)


@run.callback()
def options() -> None:
    """Make agents."""


@run.command(name="new")
def new(
    name: Annotated[str, typer.Argument(help="Lower case letters, digits and hyphens, like my-agent.")],
    *,
    folder: Annotated[Path, typer.Option("--in", help="Where its folder is made.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Make an agent's folder: code, manifest and checks that pass. Nothing that is there is changed."""
    from sutazai.spec.section import name_problem

    if problem := name_problem(name, NAME_CHARACTERS_MAX):
        raise CliError(f"{name!r} is no name of an agent: {problem[0]}; {problem[1]}", REFUSED)
    home = folder / name
    if home.exists():
        raise CliError(f"{home} is there already; choose another name, or --in another folder", REFUSED)
    files = files_of(name)
    try:
        home.mkdir(parents=True)
        for file, text in files.items():
            (home / file).write_text(text)
    except OSError as error:
        raise HostError(f"cannot write {error.filename}: {error.strerror}") from error
    if as_json:
        print_json({"agent": name, "folder": str(home), "files": list(files)})
        return
    print(f"made {home} with {', '.join(files)}")
    print("name it in a fleet's manifest, relative to it, and bring it up:")
    print(f"  agents:\n    {name}: {{path: {home}}}")
    print(f"then: sutazai up MANIFEST && sutazai smoke {name}")
