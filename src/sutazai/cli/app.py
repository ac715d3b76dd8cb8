"""Why it exists: the list of verbs, and the one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from sutazai import __version__
from sutazai.cli import (
    agent,
    ask,
    demo,
    doctor,
    down,
    import_,
    logs,
    migrate,
    plan,
    restart,
    schema,
    service,
    smoke,
    status,
    task,
    up,
    why,
    workflow,
)
from sutazai.cli.exits import BAD_MANIFEST, FAILED, INTERRUPTED, NOT_UP, OK, REFUSED, CliError
from sutazai.errors import ConfigError, ConfigErrors, RefusedError, SutazaiError, UnavailableError

app = typer.Typer(
    name="sutazai",
    help="Run a whole fleet of AI agents, and every service they need, on one CPU-only machine.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: The verbs in the order in which a newcomer meets them.
VERBS = (
    plan, up, status, why, ask, task, workflow, logs, restart, smoke, demo, agent, import_, doctor, schema, service,
    migrate, down,
)  # fmt: skip
for verb in VERBS:
    if isinstance(verb.run, typer.Typer):
        app.add_typer(verb.run, name=verb.__name__.rpartition(".")[2])
    else:
        app.command(name=verb.__name__.rpartition(".")[2].rstrip("_"))(verb.run)


def _version(value: bool) -> None:  # noqa: FBT001 the framework calls it by position
    if value:
        print(f"sutazai {__version__}")
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)]


@app.callback()
def options(
    *,
    version: VersionOption = False,
) -> None:
    """Run a whole fleet of AI agents, and every service they need, on one CPU-only machine."""


def _explain(error: BaseException) -> int:
    if isinstance(error, ConfigErrors):
        for mistake in error.exceptions:
            print(f"  {mistake}", file=sys.stderr)
        print(f"{error.message}; nothing was changed", file=sys.stderr)
        return BAD_MANIFEST
    print(f"sutazai: {error}", file=sys.stderr)
    if isinstance(error, CliError):
        return error.code
    codes: tuple[tuple[type[SutazaiError], int], ...] = (
        (ConfigError, BAD_MANIFEST),
        (UnavailableError, NOT_UP),
        (RefusedError, REFUSED),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), FAILED)


def main() -> None:
    """Run one verb and leave with its exit code."""
    try:
        outcome = app(standalone_mode=False)
        sys.stdout.flush()
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except (CliError, SutazaiError, ConfigErrors) as error:
        sys.exit(_explain(error))
    except BrokenPipeError:  # the reader has seen enough; nothing may complain when the interpreter flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        show = getattr(error, "show", None)  # the framework's own complaint about arguments
        if show is None:
            raise
        show()
        sys.exit(BAD_MANIFEST)
    sys.exit(outcome if isinstance(outcome, int) else OK)
