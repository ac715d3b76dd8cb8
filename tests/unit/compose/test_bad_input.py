"""Compose files that are hostile, broken, or none at all: each gets a clear error with its place and a hint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sutazai.compose import Source, take_over
from sutazai.errors import ConfigError, ConfigErrors

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Take, Wrong

WEB = "services:\n  web:\n    image: redis\n"


def only(mistakes: list[ConfigError]) -> str:
    """Write the only mistake as a person sees it."""
    assert len(mistakes) == 1, [str(mistake) for mistake in mistakes]
    return str(mistakes[0])


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("", "compose.yaml", "the file is empty"),
        ("# nothing\n", "compose.yaml:1", "only comments"),
        ("- a\n- b\n", "compose.yaml:1:1", "holds a list"),
        ("services:\n\tweb:\n\t\timage: a\n", "compose.yaml:2:1", "a tab is used as indentation"),
        ("web:\n  image: redis\n", "compose.yaml:1:1", "the form of version 1: write services: above web"),
        ("servces:\n  web: {image: a}\n", "compose.yaml:1:1", "did you mean services: instead of servces:?"),
        ("services: {}\n", "compose.yaml:1:1", "services is empty"),
        ("services: [a]\n", "compose.yaml:1:11", "keys with values meant, not a list"),
        ("services:\n  web: nginx\n", "compose.yaml:2:8", "keys with values meant, not the value 'nginx'"),
        ("services:\n  web:\n", "compose.yaml:2:", "keys with values meant"),
        ("services:\n  'a b': {image: a}\n", "compose.yaml:2:3", "'a b' is no name of a service"),
        ("services:\n  web: {ports: ['80']}\n", "compose.yaml:2:3", "has neither image nor build"),
        ("services:\n  web: {image: a, image: b}\n", "compose.yaml:2:19", "image is written twice"),
        (WEB + "  web:\n    image: b\n", "compose.yaml:4:3", "web is written twice"),
        ("services:\n  web: {<<: *nothing, image: a}\n", "compose.yaml:2:13", "nothing"),
        ("services:\n  web: !reset {image: a}\n", "compose.yaml:2:8", "the tag !reset is not used here"),
        (WEB + "---\nservices: {}\n", "compose.yaml:4:1", "a second document begins here"),
        (WEB + "    ports: 80:80\n", "compose.yaml:4:12", "here is a list meant"),
        (WEB + "    ports: [http]\n", "compose.yaml:4:13", "'http' is no port"),
        (WEB + "    ports: ['70000:80']\n", "compose.yaml:4:13", "a port is 1 to 65535"),
        (WEB + "    ports: ['-1:80']\n", "compose.yaml:4:13", "'-1:80' is no port"),
        (WEB + "    ports: ['8080-8081:80-85']\n", "compose.yaml:4:13", "write two ranges of one length"),
        (WEB + "    ports: [[80]]\n", "compose.yaml:4:13", "here is one port meant"),
        (WEB + "    ports: [{published: 80}]\n", "compose.yaml:4:13", "has no target"),
        (WEB + "    ports: [{target: x}]\n", "compose.yaml:4:22", "'x' is no port"),
        (WEB + "    expose: [0]\n", "compose.yaml:4:14", "'0' is no port"),
        (WEB + "    mem_limit: lots\n", "compose.yaml:4:16", "write 512m or 2g"),
        (WEB + "    mem_limit: 512\n", "compose.yaml:4:16", "did you mean 512m?"),
        (WEB + "    cpus: half\n", "compose.yaml:4:11", "'half' is no number of cores"),
        (WEB + "    cpuset: 3-1\n", "compose.yaml:4:13", "'3-1' is no list of cores"),
        (WEB + "    cpuset: '99999'\n", "compose.yaml:4:13", "is no list of cores"),
        (WEB + "    pids_limit: many\n", "compose.yaml:4:17", "'many' is not a number"),
        (WEB + "    stop_grace_period: soon\n", "compose.yaml:4:24", "write 30s or 1m30s"),
        (WEB + "    command: 'echo \"a'\n", "compose.yaml:4:14", "cannot be split into words"),
        (WEB + "    healthcheck: {interval: 5s}\n", "compose.yaml:4:5", "has no test"),
        (WEB + "    healthcheck: {test: [curl, x]}\n", "compose.yaml:4:19", 'begins with "CMD"'),
        (WEB + "    depends_on: [web]\n", "compose.yaml:4:18", "in a circle: web → web"),
        (WEB + "    depends_on: [wbe]\n", "compose.yaml:4:18", "did you mean web?"),
        (WEB + "    depends_on: {web: {condition: ready}}\n", "compose.yaml:4:35", "'ready' is unknown"),
        (WEB + "    env_file: missing.env\n", "compose.yaml:4:15", "there is no file missing.env"),
        (WEB + "    environment: {A: {b: c}}\n", "compose.yaml:4:", "here is one value meant"),
        (WEB + "    environment: [[a]]\n", "compose.yaml:4:19", "NAME=value"),
        (WEB + "    volumes: ./a:/b\n", "compose.yaml:4:14", "here is a list meant"),
        (WEB + "    volumes: [{type: bind, source: .}]\n", "compose.yaml:4:15", "has no target"),
        (WEB + "    build: ./nowhere\n", "compose.yaml:4:12", "there is no folder ./nowhere"),
        (WEB + "    build: .\n", "compose.yaml:4:12", "there is no Dockerfile in ."),
        (WEB + "    build: https://example.com/a.git\n", "compose.yaml:4:12", "is not a folder of this host"),
        (WEB + "    extends: {service: nobody}\n", "compose.yaml:4:5", "extends unknown service 'nobody'"),
        (WEB + "    extends: {file: other.yml, service: a}\n", "compose.yaml:4:5", "there is no file other.yml"),
        (WEB + "    image: ${A\n", "compose.yaml:4:5", "written twice"),
        ("services:\n  web: {image: 'a:${TAG'}\n", "compose.yaml:2:16", "has no closing brace"),
        ("services:\n  web: {image: 'a:${1}'}\n", "compose.yaml:2:16", "is no variable"),
        ("services:\n  web: {image: 'a$ b'}\n", "compose.yaml:2:16", "a dollar sign itself is written $$"),
        (
            "services:\n  web: {image: 'a:${TAG:?say which}'}\n",
            "compose.yaml:2:16",
            "TAG is required and not set: say which",
        ),
        ("include: [gone.yml]\n" + WEB, "compose.yaml:1:11", "include: there is no file gone.yml"),
    ],
)
def test_a_wrong_file_says_where_and_what(wrong: Wrong, text: str, where: str, told: str) -> None:
    """Each mistake is named with file, line and column, says what to write, and no manifest is written."""
    shown = [str(mistake) for mistake in wrong(text)]
    assert any(line.startswith(where) and told in line for line in shown), shown


def test_all_mistakes_come_at_once(wrong: Wrong) -> None:
    """A person mends the file once, not once for each line."""
    text = "services:\n  a: {image: x, ports: [no], mem_limit: 1}\n  b: {image: y, cpus: z}\n"
    assert len(wrong(text)) == 3


def test_circles(wrong: Wrong) -> None:
    """A circle of dependencies and one of extensions are named link by link."""
    text = (
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c]}\n  c: {image: x, links: [a]}\n"
    )
    assert "in a circle: a → b → c → a" in only(wrong(text))
    told = [
        str(each) for each in wrong("services:\n  a: {image: x, extends: b}\n  b: {image: x, extends: {service: a}}\n")
    ]
    assert any("extend each other in a circle: a → b → a" in line for line in told)


def test_profiles(wrong: Wrong) -> None:
    """A profile that nobody has, and a dependency whose profile is off, say which there are."""
    text = "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, profiles: [gpu]}\n"
    assert "add --profile gpu" in only(wrong(text))
    assert "did you mean gpu?" in str(wrong(text, "gpus")[0])


def test_a_byte_order_mark_is_fine(take: Take) -> None:
    """Editors of another system write one; UTF-16 is refused."""
    assert take("\ufeff" + WEB).report.services[0].name == "redis"


def test_other_encodings(wrong: Wrong) -> None:
    """What is not UTF-8 is refused with its place."""
    assert "is UTF-16" in only(wrong(WEB.encode("utf-16")))
    assert "is not UTF-8" in only(wrong(WEB.encode() + b"    # \xff\n"))


def test_an_alias_bomb_is_refused(wrong: Wrong) -> None:
    """Nine lines that stand for a billion values are refused when they would unfold."""
    lines = ["x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"x-{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    assert "unfolds to more than" in only(wrong("\n".join(lines) + "\n" + WEB))


def test_200_000_lines_end_soon(wrong: Wrong) -> None:
    """A file of 200 000 lines is refused for what it is, without an endless wait."""
    text = "services:\n" + "".join(f"  s{i}:\n    image: a\n" for i in range(100_000))
    started = time.monotonic()
    assert wrong(text)
    assert time.monotonic() - started < 60  # a bound against hanging, not a measurement


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    """A folder is refused, and the file in it is proposed."""
    (tmp_path / "compose.yaml").write_text(WEB)
    with pytest.raises(ConfigErrors) as caught:
        take_over(Source((tmp_path,), {}), tmp_path / "sutazai.yaml")
    assert "is a directory" in str(caught.value.exceptions[0])
    assert "compose.yaml" in str(caught.value.exceptions[0])


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel refuses is said with the command that mends it."""
    path = tmp_path / "compose.yaml"
    path.write_text(WEB)

    def refuse(*_args: object, **_kw: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(ConfigErrors) as caught:
        take_over(Source((path,), {}), tmp_path / "sutazai.yaml")
    assert "chmod +r" in str(caught.value.exceptions[0])


@pytest.mark.parametrize(
    ("line", "told"),
    [("A B\n", "is no NAME=value"), ("A='open\n", "a quote is not closed"), ("=x\n", "is no NAME=value")],
)
def test_a_wrong_env_file(wrong: Wrong, line: str, told: str) -> None:
    """A line of a file of variables is named with the file's own place."""
    shown = str(wrong(WEB + "    env_file: my.env\n", files={"my.env": "# fine\n\n" + line})[0])
    assert "my.env:3:" in shown
    assert told in shown


@pytest.mark.parametrize(
    ("dockerfile", "told"),
    [("WORKDIR /x\n", "has no FROM line"), ("FROM python AS one\n", "has no stage 'two'"), ("", "the file is empty")],
)
def test_a_wrong_dockerfile(wrong: Wrong, dockerfile: str, told: str) -> None:
    """A Dockerfile that cannot be read is named, not guessed around."""
    text = "services:\n  web: {build: {context: app, target: two}}\n"
    shown = str(wrong(text, files={"app/Dockerfile": dockerfile})[0])
    assert "app/Dockerfile" in shown
    assert told in shown


def test_unknown_keys_are_named_and_ignored(take: Take) -> None:
    """A key that Compose does not have is in the report with its place; an extension is nobody's business."""
    notes = take("x-mine: {a: b}\nservies: {}\n" + WEB + "    prots: ['80:80']\n    x-note: hello\n").report.notes
    told = {(note.key, note.where): note.text for note in notes}
    assert "did you mean ports?" in told["prots", "compose.yaml:6:5"]
    assert "did you mean services?" in told["servies", "compose.yaml:2:1"]
    assert not [note for note in notes if note.key.startswith("x-")]


def test_a_name_that_the_fleet_cannot_have(take: Take) -> None:
    """Names with capitals, underscores and those of the platform become others, deterministic, and that is said."""
    text = "services:\n" + "".join(f"  {name}: {{image: x}}\n" for name in ("My_App", "my-app", "broker", "1st"))
    report = take(text).report
    assert [row.name for row in report.services] == ["my-app", "my-app-2", "my-broker", "s-1st"]
    assert len([note for note in report.notes if "in the manifest" in note.text]) == 4
