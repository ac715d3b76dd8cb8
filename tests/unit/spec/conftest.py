"""Makes manifests and folders of agents out of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from sutazai import spec
from sutazai.errors import ConfigError, ConfigErrors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Load(Protocol):
    """Loads a manifest's text."""

    def __call__(self, text: str) -> spec.Manifest: ...


class Wrong(Protocol):
    """Loads a manifest's text that has mistakes, and gives them."""

    def __call__(self, text: str | bytes) -> list[ConfigError]: ...


def agent_folder(parent: Path, name: str, /, extra: str = "", **keys: str) -> Path:
    """Write an agent's folder; ``keys`` replace lines of its manifest, an empty one removes it."""
    folder = parent / name.replace("-", "_")
    folder.mkdir(parents=True)
    lines = {"name": f'"{name}"', "version": '"1.2"', "description": '"Says hello."', "port": "10400", **keys}
    (folder / "manifest.toml").write_text(
        "".join(f"{key} = {value}\n" for key, value in lines.items() if value) + extra
    )
    (folder / "agent.py").write_text("")
    return folder


@pytest.fixture
def make_agent() -> Callable[..., Path]:
    """Give the writer of agents' folders, see ``agent_folder``."""
    return agent_folder


@pytest.fixture
def builtin(tmp_path: Path) -> Path:
    """Folder with three built-in agents."""
    folder = tmp_path / "builtin"
    agent_folder(folder, "health-monitor", pool='"critical"', port="10425", memory='"256MB"', envelope='"64MB"')
    agent_folder(folder, "ram-optimizer", port="10387", family='"base"', keep='"45s"', extra="[settings]\ndepth = 3\n")
    agent_folder(folder, "forecaster", port="10420", family='"data"')
    return folder


@pytest.fixture
def load(tmp_path: Path, builtin: Path) -> Load:
    """Load text as a manifest."""

    def run(text: str) -> spec.Manifest:
        path = tmp_path / "sutazai.yaml"
        path.write_text(text)
        return spec.load(path, builtin_agents=builtin)

    return run


@pytest.fixture
def wrong(tmp_path: Path, builtin: Path) -> Wrong:
    """Load text as a manifest and give its mistakes."""

    def run(text: str | bytes) -> list[ConfigError]:
        path = tmp_path / "sutazai.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigErrors) as caught:
            spec.load(path, builtin_agents=builtin)
        return [mistake for mistake in caught.value.exceptions if isinstance(mistake, ConfigError)]

    return run
