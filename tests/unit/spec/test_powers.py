"""Powers: asked for by the agent, granted by the fleet, and known by one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai import spec
from sutazai.errors import ConfigErrors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Load, Wrong

    Make = Callable[..., Path]


def test_a_shipped_agent_has_what_its_manifest_names(load: Load, builtin: Path, make_agent: Make) -> None:
    """It is trusted; the fleet may only take away."""
    make_agent(builtin, "lever", port="10401", powers='["reclaim", "reclaim"]')
    assert load("fleet: a\nagents: [lever]\n").agents["lever"].powers == ("reclaim",)
    assert load("fleet: a\nagents:\n  lever: {powers: []}\n").agents["lever"].powers == ()
    assert load("fleet: a\nagents: [health-monitor]\n").agents["health-monitor"].powers == ()


def test_a_folder_of_the_user_needs_the_fleets_word(load: Load, wrong: Wrong, tmp_path: Path, make_agent: Make) -> None:
    """Unsaid is a mistake with its remedy; said is said."""
    make_agent(tmp_path, "mine", port="10444", powers='["reclaim"]')
    found = wrong("fleet: a\nagents:\n  mine: {path: mine}\n")
    assert [mistake.line for mistake in found] == [3]
    assert "asks for the power reclaim, and this manifest does not grant it" in found[0].problem
    assert found[0].hint == "write powers: [reclaim] below agents.mine, or powers: [] to run it without"
    granted = load("fleet: a\nagents:\n  mine: {path: mine, powers: [reclaim]}\n").agents["mine"]
    assert granted.powers == ("reclaim",)
    assert load("fleet: a\nagents:\n  mine: {path: mine, powers: []}\n").agents["mine"].powers == ()


def test_a_file_has_what_is_granted(load: Load, tmp_path: Path) -> None:
    """A single file has no manifest to ask with."""
    (tmp_path / "hello.py").write_text("")
    agents = load("fleet: a\nagents:\n  hello: {file: hello.py, powers: [reclaim]}\n").agents
    assert agents["hello"].powers == ("reclaim",)
    assert load("fleet: a\nagents:\n  hello: {file: hello.py}\n").agents["hello"].powers == ()


def test_more_than_was_asked_for_is_a_mistake(wrong: Wrong) -> None:
    """A grant that the agent does not know is a misunderstanding."""
    found = wrong("fleet: a\nagents:\n  health-monitor: {powers: [reclaim]}\n")
    assert [mistake.problem for mistake in found] == [
        "agents.health-monitor.powers: health-monitor does not ask for reclaim"
    ]


def test_an_unknown_power_is_named_with_its_near_ones(wrong: Wrong, tmp_path: Path, make_agent: Make) -> None:
    """In the fleet's manifest and in the agent's own, each with its place."""
    (tmp_path / "hello.py").write_text("")
    found = wrong("fleet: a\nagents:\n  hello: {file: hello.py, powers: [reclam]}\n")
    assert "there is no power 'reclam'" in found[0].problem
    assert "reclaim" in found[0].hint
    folder = make_agent(tmp_path, "odd", powers='["fly"]')
    with pytest.raises(ConfigErrors) as caught:
        spec.load_agent_folder(folder)
    assert "there is no power 'fly'" in str(caught.value.exceptions[0])
    assert "manifest.toml" in str(caught.value.exceptions[0])
