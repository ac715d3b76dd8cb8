"""What a move says when its last step fails: the move itself is done."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from sutazai.cli import migrate
from sutazai.cli.exits import FAILED, OK, CliError

ROOT = Path(__file__).parents[3]
MOVED = {"rows": {"tasks": 7, "states": 2}, "open_tasks": 1, "files_missing": 0}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_move_whose_old_store_keeps_its_name_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, *, as_json: bool
) -> None:
    """The plan is in force: the command ends well, says that the old store is not in use, and why it has no name."""
    kept = []

    def ask(*words: str) -> dict[str, Any]:
        if "--set-aside" in words:
            assert kept, "it is set aside only after the new plan is in force"
            raise CliError("store.sqlite cannot be renamed: the disk is read-only", FAILED)
        return MOVED

    monkeypatch.setattr(migrate, "_ask", ask)
    monkeypatch.setattr(migrate, "_server", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(migrate.fleets, "answers", lambda _: False)
    monkeypatch.setattr(migrate.up, "profile_of", lambda _: "embedded")
    monkeypatch.setattr(migrate.up, "compile_plan", lambda *_, **__: (tmp_path / "plan.json", 0))
    monkeypatch.setattr(migrate.up, "keep_plan", lambda *given: kept.append(given))
    assert migrate.run(ROOT / "fleets/demo.yaml", to="standard", as_json=as_json) == OK
    out, err = capsys.readouterr()
    assert "the move is done" in err
    assert "read-only. It is not in use" in err
    if as_json:
        assert json.loads(out)["left"] is None
    else:
        assert "demo has the profile standard: 7 tasks (1 of them open)" in out
        assert "what it left is kept where it was" in out
