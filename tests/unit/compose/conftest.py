"""Takes Compose files over: as text, or as one of the fixtures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from sutazai import spec
from sutazai.compose import Imported, Source, save, take_over
from sutazai.errors import ConfigError, ConfigErrors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIXTURES = Path(__file__).parents[2] / "fixtures/compose"


class Take(Protocol):
    """Takes a Compose file's text over; ``files`` are written beside it first."""

    def __call__(self, text: str | bytes, *profiles: str, files: Mapping[str, str] = ..., **env: str) -> Imported: ...


class Wrong(Protocol):
    """Takes over a text that has mistakes, and gives them."""

    def __call__(
        self, text: str | bytes, *profiles: str, files: Mapping[str, str] = ..., **env: str
    ) -> list[ConfigError]: ...


@pytest.fixture
def take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Take:
    """Take a text over, and read the manifest back, as the command does."""
    monkeypatch.chdir(tmp_path)

    def run(text: str | bytes, *profiles: str, files: Mapping[str, str] = {}, **env: str) -> Imported:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        Path("compose.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        imported = take_over(Source((Path("compose.yaml"),), env, profiles=profiles), Path("sutazai.yaml"))
        save(imported, Path("sutazai.yaml"))
        return imported

    return run


@pytest.fixture
def wrong(take: Take) -> Wrong:
    """Take a text over that has mistakes."""

    def run(text: str | bytes, *profiles: str, files: Mapping[str, str] = {}, **env: str) -> list[ConfigError]:
        with pytest.raises(ConfigErrors) as caught:
            take(text, *profiles, files=files, **env)
        assert not Path("sutazai.yaml").exists()
        return [mistake for mistake in caught.value.exceptions if isinstance(mistake, ConfigError)]

    return run


@pytest.fixture
def loaded() -> Callable[[], spec.Manifest]:
    """Read the manifest that was written."""
    return lambda: spec.load(Path("sutazai.yaml"))


@pytest.fixture
def fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Imported]:
    """Take one of the fixtures over in a copy of its own; the manifest stands beside it."""

    def run(name: str, *profiles: str) -> Imported:
        home = tmp_path / name
        shutil.copytree(FIXTURES / name, home)
        monkeypatch.chdir(home)
        names = sorted(path.name for path in Path().iterdir() if "compose" in path.name)
        file = Path(names[0])
        imported = take_over(Source((file,), {}, profiles=profiles), Path("sutazai.yaml"))
        save(imported, Path("sutazai.yaml"))
        return imported

    return run
