"""From a manifest to a plan file on this very host: real facts, real agent code in subprocesses, real ports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai import plan as planner
from sutazai.control import compile as compiler
from sutazai.control import describe as describer
from sutazai.control import facts
from sutazai.control.planfile import UID_BLOCK, UID_BLOCKS, UID_FIRST, fill, uid_first
from sutazai.errors import ConfigErrors
from sutazai.paths import FleetPaths
from sutazai.spec import builtin_agents_dir, builtin_names, load
from sutazai.supervisor.contract import PlanFile
from sutazai.supervisor.stages import mistakes
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FLEET = f"t{os.getpid()}c"
OFFSET = 1_000 + os.getpid() % 20_000
AGENT = '''
from sutazai.runtime import Agent, Context

agent = Agent("{name}")


@agent.skill
def greet(name: str, ctx: Context) -> str:
    """Greet somebody by name."""
    return "Hello, " + name
'''
HEAD = f"""
fleet: {FLEET}
port_offset: {OFFSET}
memory_pools:
  infrastructure: {{size: 256MB}}
  critical: {{size: 2GB}}
  standard: {{size: 300MB}}
  monitoring: {{size: 16MB}}
  reserve: {{size: 16MB}}
runtime_pools: {{python: {{workers: 1}}}}
"""
#: So that a test does not depend on what runs beside it.
HOST = planner.HostFacts(8 * GIB, 0, (0, 1), cgroup="v2")


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the fleet folders of its own; the run root is short, because a socket's path may have 107 bytes."""
    run = Path(f"/tmp/{FLEET}")  # noqa: S108 short on purpose
    run.mkdir()
    monkeypatch.setenv("SUTAZAI_STATE_ROOT", str(tmp_path / "state"))
    monkeypatch.setenv("SUTAZAI_RUN_ROOT", str(run))
    yield run
    for path in sorted(run.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    run.rmdir()


def write(tmp_path: Path, rest: str, **agents: str) -> Path:
    """Write a manifest, and files of agents beside it."""
    for name, code in agents.items():
        (tmp_path / f"{name}.py").write_text(code)
    path = tmp_path / "sutazai.yaml"
    path.write_text(HEAD + rest)
    return path


def run(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the compiler as ``sutazai up`` does."""
    command = [sys.executable, "-m", "sutazai.control.compile", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def process(file: PlanFile, name: str) -> Any:
    """Pick a process of a plan file."""
    return next(entry for entry in file.processes if entry.name == name)


def test_a_whole_plan_file(tmp_path: Path) -> None:
    """A fleet with a user's own agent and a service becomes a plan that ``sutazaid`` takes without a complaint."""
    path = write(
        tmp_path,
        "agents: {hello: {file: hello.py, memory: 100MB, settings: {lang: en}}}\n"
        "services:\n"
        "  shop: {command: '{python} -m http.server {port}', port: 10600, memory: 64MB, pool: standard,\n"
        "         env: {DATA: '{state}', WHO: '{fleet}'},\n"
        "         ready: {http: /}, probe: {tcp: true}, restart: on-unhealthy}\n"
        "policies: {restart: {first: 1s, longest: 9s}}\n",
        hello=AGENT.format(name="hello"),
    )
    out = tmp_path / "plan.json"
    done = run(path, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert f"{FLEET} fits" in done.stdout
    assert out.stat().st_mode & 0o777 == 0o600
    file = PlanFile.load(out)
    assert mistakes(file) == []
    assert file.stages == ["store", "control", "workers", "services", "edge"]
    assert [entry.name for entry in file.processes] == ["broker", "control", "zygote", "shop", "gateway"]
    assert file.restart.base_ms == 1_000
    assert file.restart.cap_ms == 9_000
    (agent,) = file.agents
    assert agent.skills[0]["name"] == "greet"
    assert agent.skills[0]["description"] == "Greet somebody by name."
    assert agent.settings == {"lang": "en"}
    assert agent.limits.memory_bytes == 100 * MIB
    (worker,) = file.workers
    assert (worker.name, worker.family, worker.pool) == ("python-0", "base", "platform")
    shop = process(file, "shop")
    port = 10600 + OFFSET
    assert shop.argv == [sys.executable, "-m", "http.server", str(port)]
    assert shop.env == {"PORT": str(port), "DATA": str(tmp_path / "state" / FLEET / "services" / "shop"), "WHO": FLEET}
    assert (shop.ready.kind, shop.ready.port, shop.probe.kind, shop.probe.restart) == ("http", port, "tcp", True)
    assert Path(shop.env["DATA"]).is_dir()


def test_sockets_of_the_platform(tmp_path: Path) -> None:
    """Every listening socket is in the plan under the name by which its process looks for it."""
    text = "agents: {hello: {file: hello.py}}\npolicies: {callers: {rate: 50/s, burst: 9}}\n"
    path = write(tmp_path, text, hello=AGENT.format(name="hello"))
    compiled = compiler.compile_manifest(path, facts=HOST)
    assert compiled.file is not None
    assert process(compiled.file, "gateway").argv[3:] == ["--caller-interval-us", "20000", "--caller-burst", "9"]
    paths = FleetPaths.of(FLEET)
    gateway = {listen.name: listen.port for listen in process(compiled.file, "gateway").listen}
    assert gateway == {"edge": 10005 + OFFSET, "agent:hello": 10508 + OFFSET, "worker:python-0": 10500 + OFFSET}
    (broker,) = process(compiled.file, "broker").listen
    assert (broker.path, broker.mode) == (str(paths.broker_socket), 0o666)
    control = {listen.name: listen.port or listen.path for listen in process(compiled.file, "control").listen}
    assert control == {
        "resource-manager": 10009 + OFFSET,
        "backend": 10010 + OFFSET,
        "metrics": 10204 + OFFSET,
        "control": str(paths.control_socket),
    }


def test_the_model_server(tmp_path: Path) -> None:
    """The model's numbers reach its process, and its address reaches the workers."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(1000))
    path = write(tmp_path, "llm: {model: ./m.gguf, memory: 200MB, slots: 3, context: 1024}\n")
    compiled = compiler.compile_manifest(path, facts=HOST)
    assert compiled.file is not None
    llm = process(compiled.file, "llm")
    assert llm.env == {
        "SUTAZAI_MODELS": str(tmp_path / "state" / "models"),
        "SUTAZAI_LLM_MODEL": str(tmp_path / "m.gguf"),
        "SUTAZAI_LLM_THREADS": "1",
        "SUTAZAI_LLM_SLOTS": "3",
        "SUTAZAI_LLM_CONTEXT_TOKENS": "1024",
        "SUTAZAI_LLM_MEMORY_BYTES": str(200 * MIB),
    }
    assert llm.limits.cpu_quota_cores == 1.0
    url = process(compiled.file, "zygote").env["SUTAZAI_LLM_URL"]
    assert url == f"http://127.0.0.1:{10104 + OFFSET}/v1/chat/completions"


def test_a_model_elsewhere(tmp_path: Path) -> None:
    """Address, form and the key's place reach the process; the key itself reaches no plan; no file is asked for."""
    (tmp_path / "key").write_text("very-secret")
    (tmp_path / "key").chmod(0o600)
    path = write(tmp_path, "llm: {driver: openai, url: 'https://box/v1', model: org/m, api_key_file: key}\n")
    compiled = compiler.compile_manifest(path, facts=HOST)
    assert compiled.file is not None
    env = process(compiled.file, "llm").env
    assert (env["SUTAZAI_LLM_DRIVER"], env["SUTAZAI_LLM_UPSTREAM_URL"]) == ("openai", "https://box/v1")
    assert (env["SUTAZAI_LLM_MODEL"], env["SUTAZAI_LLM_API_KEY_FILE"]) == ("org/m", str(tmp_path / "key"))
    assert env["SUTAZAI_LLM_MEMORY_BYTES"] == str(256 * MIB)
    assert "very-secret" not in str(compiled.file)


@pytest.mark.parametrize(
    ("llm", "problem", "hint"),
    [
        (
            "{model: qwen2.5-codr-0.5b-instruct, memory: 200MB}",
            "unknown model",
            "did you mean qwen2.5-coder-0.5b-instruct?",
        ),
        ("{model: qwen2.5-coder-0.5b-instruct, memory: 200MB}", "is too little for", "539MB"),
    ],
)
def test_the_model_is_checked_before_a_start(tmp_path: Path, llm: str, problem: str, hint: str) -> None:
    """An unknown model, or one that its limit cannot hold, is a mistake of the manifest with its place."""
    with pytest.raises(ConfigErrors) as caught:
        compiler.compile_manifest(write(tmp_path, f"llm: {llm}\n"), facts=HOST)
    text = str(caught.value.exceptions[0])
    assert problem in text
    assert hint in text
    assert ".yaml:11:1" in text


def test_a_bad_manifest_is_exit_code_2(tmp_path: Path) -> None:
    """All mistakes are printed, each with its place and a hint, and nothing is written."""
    out = tmp_path / "plan.json"
    path = write(tmp_path, "agnets: {}\nservices: {a: {command: x, memory: 5}}\n")
    done = run(path, "--out", str(out))
    assert done.returncode == 2
    assert "2 mistakes" in done.stderr
    assert ":11:1: unknown key 'agnets'\n      → did you mean agents?" in done.stderr
    assert "services.a.memory: 5 has no unit" in done.stderr
    assert not out.exists()
    data = json.loads(run(path, "--check-only", "--json").stdout)
    assert [mistake["line"] for mistake in data["mistakes"]] == [11, 12]


def test_a_taken_port_is_exit_code_1(tmp_path: Path) -> None:
    """A port that somebody holds is found on the real host, its holder is named, and nothing is written."""
    out = tmp_path / "plan.json"
    path = write(tmp_path, "")
    with socket.create_server(("127.0.0.1", 10005 + OFFSET)):
        done = run(path, "--out", str(out))
    assert done.returncode == 1
    line = " ".join(done.stdout.split())
    assert f"port {10005 + OFFSET} of gateway is held by pid {os.getpid()}" in line
    assert "does not fit" in line
    assert not out.exists()
    assert run(path, "--out", str(out)).returncode == 0


def test_too_small_a_host_writes_nothing(tmp_path: Path) -> None:
    """A plan that does not fit has no plan file."""
    facts_small = planner.HostFacts(GIB, 0, (0,))
    compiled = compiler.compile_manifest(write(tmp_path, ""), facts=facts_small)
    assert compiled.file is None
    assert not compiled.plan.fits
    compiler.write(compiled, tmp_path / "plan.json")
    assert not (tmp_path / "plan.json").exists()


def test_what_this_host_lacks(tmp_path: Path) -> None:
    """A missing program and a missing user are named at their service."""
    path = write(
        tmp_path,
        "services:\n  a: {command: no-such-program-anywhere, memory: 5MB}\n"
        "  b: {command: sleep 1, memory: 5MB, user: no-such-user}\n  c: {command: ./run.sh, memory: 5MB}\n",
    )
    with pytest.raises(ConfigErrors) as caught:
        compiler.compile_manifest(path, facts=HOST)
    text = "\n".join(str(mistake) for mistake in caught.value.exceptions)
    assert ":12:3: a: there is no program no-such-program-anywhere" in text
    assert ":13:3: b: there is no user no-such-user" in text
    assert ":14:3: c: there is no program ./run.sh" in text


def test_programs_are_found_beside_the_manifest(tmp_path: Path) -> None:
    """A relative program is relative to the service's folder, and becomes absolute."""
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    path = write(
        tmp_path, "services: {c: {command: ./run.sh --now, memory: 5MB}, d: {command: sleep 1, memory: 5MB}}\n"
    )
    compiled = compiler.compile_manifest(path, facts=HOST)
    assert compiled.file is not None
    assert process(compiled.file, "c").argv == [str(script), "--now"]
    assert process(compiled.file, "d").argv[0].startswith("/")


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("import no_such_module\n", "No module named"),
        ("def broken(:\n", "cannot be used"),
        (AGENT.format(name="other"), "other"),
        ("print('hello')\n", "cannot be used"),
        ("import os\nos._exit(3)\n", "cannot be used"),
    ],
)
def test_broken_agent_code_is_named(tmp_path: Path, code: str, part: str) -> None:
    """One agent's broken code is told with its place; the other agent is not blamed."""
    path = write(
        tmp_path,
        "agents:\n  good: {file: good.py}\n  bad: {file: bad.py}\n",
        good=AGENT.format(name="good"),
        bad=code,
    )
    with pytest.raises(ConfigErrors) as caught:
        compiler.compile_manifest(path, facts=HOST)
    (mistake,) = caught.value.exceptions
    assert "bad: its code cannot be used" in str(mistake)
    assert part in str(mistake)
    assert ".yaml:13:3" in str(mistake)


def test_descriptions_are_kept_until_the_code_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second compile starts no subprocess; a changed line of the agent's code starts one."""
    path = write(tmp_path, "agents: {hello: {file: hello.py}}\n", hello=AGENT.format(name="hello"))
    first = compiler.compile_manifest(path, facts=HOST)
    calls: list[list[str]] = []

    def counted(command: list[str], agents: int) -> list[dict[str, Any]]:
        calls.append(command)
        return real(command, agents)

    real = describer._run
    monkeypatch.setattr(describer, "_run", counted)
    second = compiler.compile_manifest(path, facts=HOST)
    assert calls == []
    assert first.file is not None
    assert second.file is not None
    assert first.file.agents == second.file.agents
    (tmp_path / "hello.py").write_text(AGENT.format(name="hello").replace("somebody", "anybody"))
    third = compiler.compile_manifest(path, facts=HOST)
    assert len(calls) == 1
    assert third.file is not None
    assert third.file.agents[0].skills[0]["description"] == "Greet anybody by name."


def test_broken_cache_is_no_obstacle(tmp_path: Path) -> None:
    """A damaged file of kept descriptions is ignored."""
    folder = FleetPaths.of(FLEET).state
    folder.mkdir(parents=True)
    (folder / "skills.json").write_text("{")
    path = write(tmp_path, "agents: {hello: {file: hello.py}}\n", hello=AGENT.format(name="hello"))
    assert compiler.compile_manifest(path, facts=HOST).file is not None


def test_ports_of_the_running_fleet_are_its_own(roots: Path) -> None:
    """Ports of ``sutazaid``'s children count as free for its own fleet, and as taken for another one."""
    (roots / FLEET).mkdir()
    holder = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]); sys.stdin.read()"
    )
    with (
        socket.socket(socket.AF_UNIX) as server,
        subprocess.Popen([sys.executable, "-uc", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
    ):
        assert child.stdout is not None
        port = int(child.stdout.readline())
        server.bind(str(roots / FLEET / "sutazaid.sock"))
        server.listen()
        thread = threading.Thread(target=_answer_status, args=(server,), daemon=True)
        thread.start()
        try:
            assert port not in facts.gather(FLEET).listening
            assert str(child.pid) in facts.gather(f"{FLEET}x").listening[port]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            child.communicate()


def test_the_guard_is_of_the_fleet(roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard holds the listening sockets too, so its ports are the fleet's own; another parent's are not."""
    (roots / FLEET).mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(roots / FLEET / "sutazaid.sock"))
        server.listen()
        thread = threading.Thread(target=_answer_status, args=(server,), daemon=True)
        thread.start()
        try:
            assert os.getppid() not in facts.own_pids(FLEET, FleetPaths.of(FLEET))
            monkeypatch.setattr(facts.procfs, "name", lambda _pid: "sutazaid-guard")
            assert {os.getpid(), os.getppid()} <= facts.own_pids(FLEET, FleetPaths.of(FLEET))
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _answer_status(server: socket.socket) -> None:
    """Answer as ``sutazaid`` does, until the socket is closed."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, connection.makefile("rwb") as stream:
            for line in stream:
                reply = {"id": json.loads(line)["id"], "ok": True, "processes": [], "instances": []}
                stream.write(json.dumps(reply).encode() + b"\n")
                stream.flush()


def test_facts_of_this_host() -> None:
    """The facts come as JSON from a process of their own, and are sane."""
    command = [sys.executable, "-m", "sutazai.control.facts", "--fleet", FLEET]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = planner.HostFacts.from_json(json.loads(done.stdout))
    assert found.memory_total_bytes > found.memory_used_outside_bytes > 0
    assert set(found.cores) == os.sched_getaffinity(0)
    assert found.ephemeral[0] < found.ephemeral[1]
    assert found.cgroup in {"v1", "v2", "none"}


def test_user_ids_of_instances() -> None:
    """Each fleet's block of user ids lies in the part that nobody uses, below 65536."""
    for name in ("a", "demo", "another"):
        assert UID_FIRST <= uid_first(name) <= UID_FIRST + UID_BLOCK * (UID_BLOCKS - 1)
    assert UID_FIRST >= 60_578
    assert UID_FIRST + UID_BLOCK * UID_BLOCKS <= 61_183


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{port}", "1"),
        ("{port.web}", "2"),
        ("{{port}}", "{port}"),
        ("a{port}b{port}", "a1b1"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_placeholders(text: str, filled: str) -> None:
    """Words are replaced, doubled braces become braces, all other braces stay."""
    assert fill(text, {"port": "1", "port.web": "2"}) == filled


def test_the_demo_compiles(tmp_path: Path) -> None:
    """What ``make run`` starts fits a machine with 2 cores and 4 GB, and its agents describe themselves."""
    manifest = tmp_path / "demo.yaml"
    manifest.write_text((ROOT / "fleets" / "demo.yaml").read_text())
    small = planner.HostFacts(int(3.8 * GIB), int(0.4 * GIB), (0, 1), cgroup="v2")
    compiled = compiler.compile_manifest(manifest, facts=small)
    assert compiled.plan.errors == ()
    assert compiled.file is not None
    assert mistakes(compiled.file) == []
    folder = builtin_agents_dir()
    python = {name for name in builtin_names(folder) if (folder / name.replace("-", "_") / "agent.py").exists()}
    assert {agent.name for agent in compiled.file.agents} == python
    assert all(agent.skills for agent in compiled.file.agents)
    assert compiled.file.digest == load(manifest).digest


def test_the_blueprint_compiles_with_what_is_built_and_lists_the_rest() -> None:
    """Planned parts are no process, worker or agent of the plan file; the gateway holds the planned agents' ports."""
    path = ROOT / "fleets" / "blueprint.yaml"
    manifest = load(path)
    compiled = compiler.compile_manifest(path, facts=HOST, keep=False)
    file = compiled.file
    assert file is not None, [str(error) for error in compiled.plan.errors]
    assert mistakes(file) == []
    planned = {entry.name: entry for entry in file.planned}
    started = {one.name for one in (*file.processes, *file.workers, *file.agents)}
    assert not planned.keys() & started
    later = {name for name, agent in manifest.agents.items() if agent.planned}
    assert {name for name, entry in planned.items() if entry.kind == "agent"} == later
    assert {agent.name for agent in file.agents} == manifest.agents.keys() - later
    assert {"postgres", "n8n-server"} <= {name for name, entry in planned.items() if entry.kind == "service"}
    held = {listen.port for listen in process(file, "gateway").listen}
    assert {agent.port for agent in manifest.agents.values()} <= held
    everywhere = {listen.port for one in file.processes for listen in one.listen}
    assert 10000 not in everywhere
    assert PlanFile.parse(json.loads(json.dumps(asdict(file)))).planned == file.planned
