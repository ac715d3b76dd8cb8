"""Why it exists: asking an agent for one skill is the first thing a user does, so it is one line.

The request is a durable task like any other: interrupting this command does not interrupt the work.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sutazai.cli import fleets, task
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.exits import BAD_MANIFEST, FAILED, OK, REFUSED, CliError
from sutazai.cli.output import note, print_json
from sutazai.cli.reading import readable
from sutazai.client import TaskClient
from sutazai.paths import FleetPaths
from sutazai.units import format_bytes


def run(  # noqa: PLR0913 an option each
    agent: Annotated[str, typer.Argument(help="Name of the agent.")],
    skill: Annotated[str, typer.Argument(help="Name of its skill; GET /skills on its port lists them.")],
    words: Annotated[list[str] | None, typer.Argument(help="Input as NAME=VALUE; a value may be JSON.")] = None,
    *,
    input_json: Annotated[str | None, typer.Option("--input", help="The whole input as a JSON object.")] = None,
    session: Annotated[str | None, typer.Option(help="Run in order with, and share state with, this session.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: asking twice makes one task.")] = None,
    deadline: Annotated[str | None, typer.Option(help="Give up after, like 30s.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the task's id and do not wait.")] = False,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> int:
    """Ask an agent for a skill and wait for the answer.

    On a terminal the answer is shown for reading: a report as text, anything else as a listing. With --json, and when
    the output goes to a file or a program, it is JSON.

    Example: sutazai ask health-monitor report window_s=60
    """
    from sutazai.units import parse_duration_ms

    request: dict[str, Any] = {"agent": agent, "skill": skill, "input": read_input(words or [], input_json)}
    if session:
        request["session"] = session
    if key:
        request["idempotency_key"] = key
    if deadline:
        try:
            request["deadline_ms"] = parse_duration_ms(deadline)
        except ValueError as error:
            raise CliError(f"--deadline: {error}", BAD_MANIFEST) from error
    _check(fleets.paths_of(fleet), agent, skill, request["input"])
    return _follow(request, Asked(detach=detach, fleet=fleet, as_json=as_json))


@dataclass(frozen=True, slots=True)
class Asked:
    """How a request is made.

    Attributes:
        key: idempotency key, if any.
        detach: do not wait.
        fleet: whose.
        as_json: for programs.
    """

    key: str | None = None
    detach: bool = False
    fleet: str | None = None
    as_json: bool = False


def submit_and_follow(agent: str, skill: str, given: dict[str, Any], asked: Asked) -> int:
    """Ask for a skill as ``sutazai ask`` does; gives the exit code."""
    request: dict[str, Any] = {"agent": agent, "skill": skill, "input": given}
    if asked.key:
        request["idempotency_key"] = asked.key
    return _follow(request, asked)


def _follow(request: dict[str, Any], asked: Asked) -> int:
    with TaskClient(fleets.paths_of(asked.fleet).run.name) as client:
        identifier = client.submit([request])[0]["id"]
        if asked.detach:
            print_json({"id": identifier}) if asked.as_json else print(identifier)
            return OK
        note(f"{identifier} is accepted and stored")
        try:
            task.follow(client, identifier)
        except KeyboardInterrupt:
            note(f"{identifier} goes on; follow it with: sutazai task watch {identifier}")
            raise
        done = client.get(identifier)
        if done["status"] == "succeeded":
            if asked.as_json or not _in_file(client, done):
                _answer(done, as_json=asked.as_json)
            return OK
    if asked.as_json:
        print_json(done)
    else:
        reason = (done.get("error") or {}).get("message") or "no reason was given"
        note(f"{done['status']}: {reason}")
    return FAILED


def _answer(done: dict[str, Any], *, as_json: bool) -> None:
    """Print a result: for reading on a terminal, as JSON for programs."""
    if as_json or not sys.stdout.isatty():
        print_json(done if as_json else done["result"])
        return
    text, left_out = readable(done["result"])
    print(text)
    if left_out:
        note(f"not shown: {', '.join(left_out)}; all of it: sutazai task show {done['id']}")


def _in_file(client: TaskClient, done: dict[str, Any]) -> bool:
    """Hand a result that lies in a file to a program; tell a person how to get it. False: it lies in none."""
    large = done.get("result_ref")
    if not large:
        return False
    if sys.stdout.isatty():
        size = format_bytes(large["bytes"])
        note(f"the result has {size}; write it to a file: sutazai task result {done['id']} --output FILE")
    else:
        with client.open_result(done) as source:
            task.print_whole(source)
    return True


def _check(paths: FleetPaths, agent: str, skill: str, given: dict[str, Any]) -> None:
    """Hold the input against the skill's schema in the plan, so that a mistake makes no task.

    Raises:
        CliError: it does not fit, or the agent is only planned. An unknown agent or skill is the broker's to refuse,
            it knows the near names.
    """
    import jsonschema_rs

    plan = json.loads(paths.plan.read_text())
    if any(entry["name"] == agent for entry in plan.get("planned", ())):
        raise CliError(f"{agent} is planned and not built in this version; sutazai status lists what is", REFUSED)
    skills: list[dict[str, Any]] = next((entry["skills"] for entry in plan["agents"] if entry["name"] == agent), [])
    schema = next((entry["input"] for entry in skills if entry["name"] == skill), None)
    if schema is None:
        return
    mistakes = [
        f"{'.'.join(str(part) for part in mistake.instance_path) or 'input'}: {mistake.message}"
        for mistake in jsonschema_rs.validator_for(schema).iter_errors(given)
    ]
    if mistakes:
        raise CliError(f"the input does not fit {agent}.{skill}: {'; '.join(mistakes)}", REFUSED)


def read_input(words: list[str], whole: str | None) -> dict[str, Any]:
    """Build the input out of words and JSON.

    Raises:
        CliError: a word is no NAME=VALUE, or the JSON is no object.
    """
    given: dict[str, Any] = {}
    if whole is not None:
        try:
            given = json.loads(whole)
        except ValueError as error:
            raise CliError(f"--input is no JSON: {error}", BAD_MANIFEST) from error
        if not isinstance(given, dict):
            raise CliError("--input must be a JSON object, like '{\"window_s\": 60}'", BAD_MANIFEST)
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise CliError(f"{word!r}: write the input as NAME=VALUE", BAD_MANIFEST)
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    return given
