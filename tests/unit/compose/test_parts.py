"""The parts one by one: variables, env files, merging, ports, limits, Dockerfiles, images, addresses."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from sutazai.compose import Source, take_over
from sutazai.compose.dockerfile import host_folder, read_dockerfile
from sutazai.compose.http_agents import find_operations
from sutazai.compose.images import is_base, known, repository
from sutazai.compose.links import Links, Target, own_value, own_words
from sutazai.compose.ports import PortDesk
from sutazai.compose.variables import Variables, read_env_file
from sutazai.compose.writing import duration_text, quoted, size_text
from sutazai.spec.places import NOWHERE, Mistakes

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Take
    from sutazai import spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$A-${A}", "one-one"),
        ("$$A $${A}", "$A ${A}"),
        ("${EMPTY:-x}${EMPTY-y}", "x"),
        ("${NONE:-x}${NONE-y}", "xy"),
        ("${NONE:-${A}/${NONE:-deep}}", "one/deep"),
        ("${A:+yes}${EMPTY:+no}${EMPTY+set}${NONE+no}", "yesset"),
        ("${A:?must}${EMPTY?may be empty}", "one"),
        ("${NONE:-a}b}", "ab}"),
        ("${NONE}", ""),
    ],
)
def test_variables(text: str, expected: str) -> None:
    """Each form of the specification gives what Compose gives."""
    variables = Variables({"A": "one", "EMPTY": ""}, Mistakes())
    assert variables.expand(text, NOWHERE) == expected
    assert len(variables.mistakes) == 0


def test_an_unset_variable_is_named(take: Take) -> None:
    """It is empty, as in Compose, and the report says so with its place."""
    report = take("services:\n  a: {image: 'redis:$TAG'}\n").report
    assert any(note.key == "TAG" and "not set" in note.text and note.warning for note in report.notes)


def test_nesting_ends(take: Take) -> None:
    """A default in a default in a default … has a bound."""
    variables = Variables({}, Mistakes())
    variables.expand("${A:-" * 20 + "x" + "}" * 20, NOWHERE)
    assert len(variables.mistakes) == 1


def test_env_file(tmp_path: Path) -> None:
    """Comments, quotes, several lines, ``export``, references to earlier names, and a name alone."""
    path = tmp_path / "my.env"
    path.write_text(
        "# first\n\nA=1 # one\nexport B = two words\nC='raw $A # kept'\n"
        'D="a\\n${A}"\nE="one\ntwo"\nF\nG=a#b\nH: yaml\nI=\n'
    )
    mistakes = Mistakes()
    assert read_env_file(path, Variables({}, mistakes)) == {
        "A": "1",
        "B": "two words",
        "C": "raw $A # kept",
        "D": "a\n1",
        "E": "one\ntwo",
        "F": None,
        "G": "a#b",
        "H": "yaml",
        "I": "",
    }
    assert len(mistakes) == 0
    path.write_text("")
    assert read_env_file(path, Variables({}, mistakes)) == {}


def test_env_of_a_service(take: Take, loaded: Callable[[], spec.Manifest]) -> None:
    """`environment` wins over `env_file`, the shell over `.env`; a name alone takes the shell's value."""
    text = (
        "services:\n  a:\n    image: python\n    command: python -c 'print(1)'\n    env_file: [one.env]\n"
        "    environment: [A=mine, SHELL_ONLY, NOWHERE, 'X=${X}', EMPTY=]\n"
    )
    files = {"one.env": "A=file\nB=file\n", ".env": "X=dot\n"}
    report = take(text, files=files, SHELL_ONLY="yes", X="shell").report
    assert loaded().services["a"].env == {"A": "mine", "B": "file", "SHELL_ONLY": "yes", "X": "shell", "EMPTY": ""}
    assert any(note.key == "NOWHERE" for note in report.notes)


def test_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys merge, lists join, the later single value and the later command win; an override beside it is named."""
    monkeypatch.chdir(tmp_path)
    Path("docker-compose.yml").write_text(
        "services:\n  a:\n    image: python:3.10\n    command: python -c 1\n    environment: [A=1, B=1]\n"
        "    ports: ['8001:8000']\n    depends_on: [b]\n  b: {image: redis}\n"
    )
    Path("docker-compose.override.yml").write_text(
        "services:\n  a:\n    image: python:3.11\n    command: [python, -c, '2', --port, '8000']\n"
        "    environment: {B: 2, C: 3}\n"
        "    ports: ['9001:9000']\n"
    )
    out = Path("sutazai.yaml")
    alone = take_over(Source((Path("docker-compose.yml"),), {}), out)
    assert any("was not named" in note.text for note in alone.report.notes)
    both = take_over(Source((Path("docker-compose.yml"), Path("docker-compose.override.yml")), {}), out)
    assert [(row.inside, row.new) for row in both.report.ports if row.service == "a"] == [(8000, 8001), (9000, 9001)]
    assert '- "2"' in both.text
    assert 'A: "1"' in both.text
    assert 'B: "2"' in both.text


def test_include(take: Take) -> None:
    """An included file's services come along, with paths from its own folder."""
    inner = "services:\n  inner: {build: ., ports: ['7000:7000']}\n"
    files = {
        "part/compose.yml": inner,
        "part/Dockerfile": "FROM python\nWORKDIR /a\nCOPY . .\nCMD python m.py --port 7000\n",
        "part/m.py": "",
    }
    text = "include: [part/compose.yml]\nservices:\n  a: {image: redis, depends_on: [inner]}\n"
    imported = take(text, files=files)
    assert {row.service for row in imported.report.services} == {"a", "inner"}
    assert "cwd: part" in imported.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'8000'", [(8000, 0)]),
        ("'8080:80'", [(80, 8080)]),
        ("'127.0.0.1:8080:80/tcp'", [(80, 8080)]),
        ("'[::1]:8080:80'", [(80, 8080)]),
        ("'127.0.0.1::80'", [(80, 0)]),
        ("'3000-3002:80-82'", [(80, 3000), (81, 3001), (82, 3002)]),
        ("'3000-3002:80'", [(80, 3000)]),
        ("'53:53/udp'", []),
        ("{target: 80, published: 8080}", [(80, 8080)]),
        ("{target: 80, published: '8080-8081'}", [(80, 8080)]),
    ],
)
def test_ports(take: Take, text: str, expected: list[tuple[int, int]]) -> None:
    """Every form of a port, as Compose reads it."""
    report = take(f"services:\n  a: {{image: unknown/x, ports: [{text}]}}\n").report
    assert [(row.inside, row.old) for row in report.ports] == expected


def test_the_port_desk_is_fair_and_deterministic() -> None:
    """Who asks first, keeps; what cannot be kept is moved, with the reason, never onto the platform's own."""
    desk = PortDesk()
    assert desk.give("a", 80, 8080) == 8080
    assert desk.give("b", 80, 8080) == 10600
    assert desk.give("c", 80, 80) == 10601
    assert desk.give("d", 80, 10700) == 10700
    assert desk.give("e", 5432, 0, 10000) == 10000
    assert desk.give("f", 5432, 0, 10000) == 10602
    assert desk.give("g", 1, 33000) == 10603
    assert desk.kept == [8080]
    for number in range(10604, 11000):
        if number != 10700:
            assert desk.give("z", 1, 0) == number
    assert desk.give("late", 1, 0) == 0


@pytest.mark.parametrize(
    ("keys", "memory_mb"),
    [
        ("mem_limit: 512m", 512),
        ("mem_limit: 1.5gb", 1536),
        ("mem_limit: 536870912", 512),
        ("deploy: {resources: {limits: {memory: 64MiB}}}", 64),
        ("deploy: {resources: {limits: {memory: 64m}}}, mem_limit: 1g", 64),
    ],
)
def test_memory(take: Take, loaded: Callable[[], spec.Manifest], keys: str, memory_mb: int) -> None:
    """Three generations of spelling give one limit; deploy wins."""
    take(f"services:\n  a: {{image: python, command: sleep 1, {keys}}}\n")
    assert loaded().services["a"].memory_bytes == memory_mb * 1024**2


def test_other_limits(take: Take, loaded: Callable[[], spec.Manifest]) -> None:
    """CPU by quota and period, reservation as the start peak, an unlimited number of processes as the default."""
    keys = "mem_limit: 1g, mem_reservation: 256m, cpu_quota: 50000, cpu_period: 100000, pids_limit: -1"
    take(f"services:\n  a: {{image: python, command: sleep 1, {keys}}}\n")
    service = loaded().services["a"]
    assert service.start_peak_bytes == 256 * 1024**2
    assert service.cpu.quota_cores == 0.5
    assert service.pids_max == 256


@pytest.mark.parametrize(
    ("test", "kind", "path"),
    [
        ('["CMD", "curl", "-f", "http://localhost:8000/health"]', "http", "/health"),
        ("curl -fsS http://127.0.0.1:8000 || exit 1", "http", "/"),
        (
            '["CMD-SHELL", "python -c \'import urllib.request as u; u.urlopen(\\"http://localhost:8000/up?x=1\\")\'"]',
            "http",
            "/up?x=1",
        ),
        ("nc -z localhost 8000", "tcp", ""),
        ("[CMD, my-check]", "tcp", ""),
        ("[NONE]", "none", ""),
    ],
)
def test_health(take: Take, loaded: Callable[[], spec.Manifest], test: str, kind: str, path: str) -> None:
    """A test that asks a page becomes a check of that page; any other asks whether the port takes connections."""
    text = "services:\n  a:\n    image: python\n    command: python -m http.server 8000\n"
    text += f"    healthcheck: {{test: {test}}}\n"
    if not test.startswith("["):
        text = text.replace("{test: " + test + "}", "\n      test: " + test)
    take(text)
    probe = loaded().services["a"].probe
    assert (probe.kind, probe.path) == (kind, path)


def test_a_health_check_that_is_switched_off(take: Take, loaded: Callable[[], spec.Manifest]) -> None:
    """`disable` leaves only the question whether it is ready."""
    take("services:\n  a: {image: python, command: python -m http.server 8000, healthcheck: {disable: true}}\n")
    assert loaded().services["a"].probe.kind == "none"


def test_dockerfile(tmp_path: Path) -> None:
    """Stages, arguments, continued lines, here-documents and copies are read; nothing is run."""
    (tmp_path / "src/pkg").mkdir(parents=True)
    (tmp_path / "src/main.py").write_text("")
    path = tmp_path / "Dockerfile"
    path.write_text(
        "# syntax=docker/dockerfile:1\nARG V=3.11\nFROM python:${V} AS base\n"
        "ENV A=1 B='two words'\nENV OLD style value\n"
        "WORKDIR /srv\nWORKDIR app\nCOPY src/ ./\nFROM base\nARG PORT=1\nRUN <<EOF\npip install -r req.txt flask\nEOF\n"
        "RUN apt-get update && \\\n  # why\n  apt-get install -y curl git && npm ci\nCOPY --from=base /x /x\n"
        'EXPOSE 8000 9000/udp $PORT\nENTRYPOINT ["python"]\nCMD ["main.py"]\n'
    )
    image = read_dockerfile(path, tmp_path, args={"PORT": "7000"})
    assert image.base == "python:3.11"
    assert image.env == {"A": "1", "B": "two words", "OLD": "style value"}
    assert image.workdir == PurePosixPath("/srv/app")
    assert image.expose == [8000, 7000]
    assert image.entrypoint is not None
    assert image.entrypoint.words == ("python",)
    assert image.cmd is not None
    assert image.cmd.words == ("main.py",)
    assert image.packages == ["flask"]
    assert [path.name for path in image.requirements] == ["req.txt"]
    assert image.system == ["curl", "git"]
    assert image.installs == ["npm ci"]
    assert image.from_stages
    assert host_folder(image, PurePosixPath("/srv/app"), tmp_path) == tmp_path / "src"
    assert host_folder(image, PurePosixPath("/srv/app/pkg"), tmp_path) == tmp_path / "src/pkg"
    assert host_folder(image, PurePosixPath("/elsewhere"), tmp_path) is None
    assert read_dockerfile(path, tmp_path, target="base", args={}).cmd is None


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("redis:7", "redis"),
        ("docker.io/library/redis:7@sha256:abc", "redis"),
        ("registry.example.com:5000/team/app:1", "team/app"),
        ("ghcr.io/open-webui/open-webui:main", "open-webui/open-webui"),
    ],
)
def test_image_names(image: str, name: str) -> None:
    """Registry, tag and digest are no part of what an image is."""
    assert repository(image) == name


def test_known_images() -> None:
    """Mirrors count; languages are told from programs."""
    assert (found := known("mirror.example.com/ollama/ollama:1")) is not None
    assert found.name == "llm"
    assert known("team/secret") is None
    for image in ("python:3.11-slim", "node:20", "ghcr.io/astral-sh/uv:python3.12-slim", "pytorch/pytorch"):
        assert is_base(image), image
    for image in ("nginx", "team/pythonista", "postgres"):
        assert not is_base(image), image


def test_addresses() -> None:
    """Names become loopback with the port of the fleet; words that only look like names stay."""
    links = Links({"db": Target("db", {5432: "<db>"}, "<db>"), "api.x": Target("api", {80: "<api>"}, "<api>")})
    assert (
        links.rewrite("postgresql+psycopg://db:db@db:5432/db?x=db")
        == "postgresql+psycopg://db:db@127.0.0.1:<db>/db?x=db"
    )
    assert links.rewrite("http://api.x/path,http://api.x:80") == "http://127.0.0.1:<api>/path,http://127.0.0.1:<api>"
    assert links.rewrite("db:5432,mydb:5432,db.local:5432") == "127.0.0.1:<db>,mydb:5432,db.local:5432"
    assert links.rewrite("db:9999") == "127.0.0.1:<db>"
    env = {"DB_HOST": "db", "DB_PORT": "5432", "POSTGRES_DB": "db", "OTHER_PORT": "5432"}
    assert links.rewrite_env(env) == {
        "DB_HOST": "127.0.0.1",
        "DB_PORT": "<db>",
        "POSTGRES_DB": "db",
        "OTHER_PORT": "5432",
    }


def test_own_ports() -> None:
    """A program's own port becomes a placeholder where it is one, and listening on all addresses becomes loopback."""
    own = {8000: "<port>"}
    assert own_words(["serve", "--port", "8000", "--max", "8000"], own) == [
        "serve",
        "--port",
        "<port>",
        "--max",
        "8000",
    ]
    assert own_words(["-b", "0.0.0.0:8000", "--web.port=8000", ":8000"], own) == [
        "-b", "127.0.0.1:<port>", "--web.port=<port>", ":<port>",
    ]  # fmt: skip
    assert own_value("APP_PORT", "8000", own) == "<port>"
    assert own_value("LIMIT", "8000", own) == "8000"
    assert own_value("BIND", "0.0.0.0:8000", own) == "127.0.0.1:<port>"


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "true",
        "12",
        "a: b",
        "# x",
        "",
        "ü",
        "a\nb\t\x7f\x00"[:-1],
        '"q"',
        "-",
        "~",
        "{a}",
        "\u2028",
        "*a",
        "a,b",
    ],
)
def test_what_is_written_is_what_is_read(tmp_path: Path, text: str) -> None:
    """Any text comes back from YAML as it was."""
    import yaml

    assert yaml.safe_load(f"k: {quoted(text, value=True)}\n")["k"] == text


def test_units() -> None:
    """Quantities are written with their unit, exactly."""
    assert [size_text(size) for size in (2**30, 3 * 2**19, 1500)] == ["1GB", "1536KB", "1500B"]
    assert [duration_text(ms) for ms in (60_000, 90_000, 1_500)] == ["1m", "90s", "1500ms"]


def test_a_program_whose_files_are_in_its_image(take: Take) -> None:
    """What is built inside an image, or copied from another stage, is planned with its reason."""
    files = {
        "app/Dockerfile": 'FROM golang AS b\nFROM debian\nCOPY --from=b /out /bin/app\nWORKDIR /x\nCMD ["/bin/app"]\n'
    }
    row = take("services:\n  a: {build: app}\n", files=files).report.services[0]
    assert row.becomes == "planned"
    assert "no plain copy" in row.how


def test_a_shell_line(take: Take, loaded: Callable[[], spec.Manifest]) -> None:
    """A line for a shell keeps its shell, with this host's interpreter and folders in it."""
    text = (
        "services:\n  a:\n    image: python\n    working_dir: /w\n    volumes: ['.:/w']\n"
        "    command: sh -c 'python /w/setup.py && exec python3 run.py $$HOME'\n"
    )
    take(text, files={"setup.py": "", "run.py": ""})
    assert loaded().services["a"].argv[:2] == ("/bin/sh", "-c")
    assert loaded().services["a"].argv[2].startswith("{python} ")
    assert "exec {python} run.py $HOME" in loaded().services["a"].argv[2]


def test_secrets_that_are_files(take: Take, loaded: Callable[[], spec.Manifest]) -> None:
    """A secret's path in the container becomes its file on this host; one without a file is named."""
    text = (
        "services:\n  a:\n    image: python\n    command: sleep 1\n    secrets: [key, other]\n"
        "    environment: {KEY_FILE: /run/secrets/key}\nsecrets: {key: {file: ./key.txt}, other: {external: true}}\n"
    )
    report = take(text, files={"key.txt": "x"}).report
    assert loaded().services["a"].env == {"KEY_FILE": "{folder}/key.txt"}
    assert any("other is no file" in note.text for note in report.notes)


def test_nothing_is_written_when_the_place_is_bad(tmp_path: Path, take: Take) -> None:
    """A folder that cannot be written is told, and no draft stays behind."""
    from sutazai.compose import save
    from sutazai.errors import ConfigErrors

    imported = take("services:\n  a: {image: redis}\n")
    with pytest.raises(ConfigErrors, match="1 mistake"):
        save(imported, tmp_path / "nowhere/sutazai.yaml")
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


SERVER = """
from fastapi import FastAPI
app = FastAPI()
other = object()

@app.get("/items/{item_id:path}")
async def item(item_id: str): ...

@app.post("/summarise")
def summarise(): ...

@app.get("/health")
def health(): ...

@other.get("/no")
def no(): ...

@app.get("relative")
def relative(): ...
"""
FLASK = """
import flask
server = flask.Flask(__name__)

@server.route("/count/<int:number>", methods=["POST"])
def count(number): ...

@server.route("/list")
def list_all(): ...
"""


def test_operations_of_a_program(tmp_path: Path) -> None:
    """FastAPI's and Flask's operations are read from the source; a program that is none, or broken, has none."""
    (tmp_path / "app.py").write_text(SERVER)
    (tmp_path / "broken.py").write_text("def (")
    assert find_operations(tmp_path).skills == {"item": "GET /items/{item_id}", "summarise": "POST /summarise"}
    (tmp_path / "app.py").write_text(FLASK)
    assert find_operations(tmp_path).skills == {"count": "POST /count/{number}", "list_all": "GET /list"}
    (tmp_path / "app.py").write_text("x = 1\n")
    assert not find_operations(tmp_path)
    (tmp_path / "openapi.json").write_text("{}")
    assert find_operations(tmp_path).document == tmp_path / "openapi.json"


def test_an_http_program_becomes_an_agent_too(take: Take, loaded: Callable[[], spec.Manifest]) -> None:
    """The service keeps its port; beside it stands an agent whose skills are the program's operations."""
    dockerfile = "FROM python\nWORKDIR /s\nCOPY . .\nCMD uvicorn app:app --port 8000\n"
    report = take(
        "services:\n  api: {build: api, ports: ['8080:8000']}\n",
        files={"api/Dockerfile": dockerfile, "api/app.py": SERVER},
    ).report
    assert [(row.name, row.becomes) for row in report.services] == [("api", "service"), ("api-agent", "agent")]
    http = loaded().agents["api-agent"].http
    assert http is not None
    assert (http.service, [skill.name for skill in http.skills]) == ("api", ["item", "summarise"])


@pytest.mark.parametrize("command", ["['']", "exec", "[sh, -c, '']", "[tini, --]"])
def test_a_command_of_nothing(take: Take, command: str) -> None:
    """A command that names no program is planned with the reason; nothing falls over it."""
    text = f"services:\n  a: {{image: python, command: {command}, working_dir: /w, volumes: ['.:/w']}}\n"
    row = take(text).report.services[0]
    assert row.becomes == "planned"
    assert "command" in row.how
