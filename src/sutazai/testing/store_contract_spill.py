"""Why it exists: the part of what each driver must pass that is about results that lie in files."""

from __future__ import annotations

import json
from typing import Any

from sutazai.errors import InvalidInputError, NotFoundError, RefusedError, UploadMissingError
from sutazai.limits import SPILLED_KEPT_LEAST
from sutazai.store import model
from sutazai.store.spill import Locate, Spilled, Unreferenced
from sutazai.testing.store_contract import StoreContract, expect, expect_refused

DIGEST = f"sha256:{'ab' * 32}"


class SpillContract(StoreContract):
    """What a row says of a file, and which files are needed."""

    def spilled(self, name: str, file: str, size: int = 5_000_000, agent: str = "a") -> Spilled:
        """Let a task end with a result in a file."""
        result = Spilled(file, size, DIGEST)
        self.submit(name, agent)
        self.commit(self.claimed(agent), result=result)
        return result

    def unreferenced(self, *files: str) -> list[str]:
        """Which of these no task needs."""
        found: list[str] = self.do(Unreferenced(files))
        return found

    def test_a_result_lies_in_a_file(self) -> None:
        """The row names file, size and digest; the same commit again is one; the file is needed."""
        self.submit("t")
        turn, result = self.claimed(), Spilled("f1", 5_000_000, DIGEST)
        expect(self.unreferenced("f1", "f2"), ["f1", "f2"], "before the commit")
        expect(self.commit(turn, result=result).status, "succeeded", "the commit")
        again = self.commit(turn, result=Spilled("", 5_000_000, DIGEST))
        expect((again.status, again.duplicate), ("succeeded", True), "the commit again, to a broker without the file")
        found = self.get("t")
        expect(json.loads(bytes(found["result"])), None, "the result in the row")
        expect(found["result_ref"], result.as_json(), "the reference")
        expect(self.unreferenced("f1", "f2"), ["f2"], "after the commit")

    def test_a_commit_whose_file_is_not_there_changes_nothing(self) -> None:
        """State and children of the turn are not stored either; it can be committed when the file is there."""
        self.submit("t", session="s")
        turn = self.claimed()
        fields: dict[str, Any] = {"state": "{}", "emits": (self.task("child", "b"),)}
        expect_refused(UploadMissingError, lambda: self.commit(turn, result=Spilled("", 9, DIGEST), **fields))
        expect(self.get("t")["status"], "leased", "the task")
        expect_refused(NotFoundError, lambda: self.get("child"))
        expect(self.do(model.ReadState("a", "s")), None, "the state")
        expect(self.commit(turn, result=Spilled("f", 9, DIGEST), **fields).status, "succeeded", "then")

    def test_a_parent_gets_the_reference(self) -> None:
        """With the turn, by recall, and by its name; another agent does not."""
        self.submit("p")
        child = self.task("c", "b")
        self.commit(self.claimed(), "wait", emits=(child,), wait=model.Wait(("c",), "then"))
        result = Spilled("f", 5_000_000, DIGEST)
        self.commit(self.claimed("b"), result=result)
        entry = self.claimed().results[0]
        expect((entry["status"], entry["result"], entry["error"]), ("succeeded", None, None), "the end of the child")
        expect(entry["result_ref"], result.as_json(), "with the turn")
        recalled = self.do(model.Recall("a", "p", (), ("c",))).results[0]
        expect(recalled["result_ref"], result.as_json(), "by recall")
        expect(self.do(Locate("a", "c")), result, "by its name")
        expect_refused(RefusedError, lambda: self.do(Locate("x", "c")))
        expect_refused(NotFoundError, lambda: self.do(Locate("a", "nobody")))
        expect_refused(InvalidInputError, lambda: self.do(Locate("a", "p")))

    def test_a_task_that_is_forgotten_lets_go_of_its_file(self) -> None:
        """The operation names the file; nothing needs it then."""
        self.spilled("old", "f")
        self.submit("new")
        outcome = self.outcome(model.Purge(kept=1))
        expect((outcome.reply, outcome.files), (1, ["f"]), "what is forgotten")
        expect(self.unreferenced("f"), ["f"], "the file")

    def test_files_that_are_too_large_together_go_the_oldest_first(self) -> None:
        """Only as many as it takes, never the newest ones, and never one that an open task still needs."""
        self.submit("first", "y")
        self.do(model.Cancel("first"))
        self.submit("p")
        self.commit(self.claimed(), "wait", emits=(self.task("c", "x"),), wait=model.Wait(("c",), "then"))
        self.commit(self.claimed("x"), result=Spilled("needed", 100, DIGEST))  # its parent is open
        for number in range(SPILLED_KEPT_LEAST + 3):
            self.spilled(f"t{number:02}", f"f{number:02}", 100, "x")
        most = 100 * (SPILLED_KEPT_LEAST + 2)
        expect(self.outcome(model.Purge(1_000, files_bytes_max=most + 200)).files, [], "small enough")
        outcome = self.outcome(model.Purge(SPILLED_KEPT_LEAST + 5, files_bytes_max=most))
        expect((outcome.reply, outcome.files), (1, ["f00", "f01"]), "beside one that is old, the oldest")
        expect(self.outcome(model.Purge(1_000, files_bytes_max=0)).files, ["f02", "f03"], "but for the newest")
        expect(self.get("t05")["result_ref"]["file"], "f05", "what stays")
