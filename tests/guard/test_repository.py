"""The repository stands alone: pinned requirements without addresses, no machine's paths, no secrets, a licence."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.decode()
    files = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in files if path.is_file()] or [path for path in ROOT.glob("src/**/*") if path.is_file()]


def test_requirements_are_pinned_hashed_and_name_no_index() -> None:
    """Each requirement is an exact version with a hash; no file says where it comes from."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        names = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE | re.IGNORECASE)
        assert names, f"{path.name} pins nothing"
        for block in re.split(r"\n(?=[a-zA-Z0-9])", text.strip()):
            if re.match(r"[a-zA-Z0-9]", block):
                assert "==" in block.splitlines()[0]
                assert "--hash=sha256:" in block
        assert not re.search(r"index-url|https?://|find-links", text)


def test_no_index_host_no_machine_path_no_secret() -> None:
    """No file names a package index's host, a path of one machine, or holds a key."""
    hosts = re.compile(
        "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "registry" + r"\.npmjs", "deb" + r"\.debian\.org"))
    )
    paths = re.compile(r"(?<![\w./-])/(?:work|farm|root/\.pyenv)/")
    secrets = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bghp_[A-Za-z0-9]{36}\b")
    for path in _tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if path == Path(__file__):
            continue
        for what in (hosts, paths, secrets):
            found = what.search(text)
            assert found is None, f"{path.relative_to(ROOT)}: {found.group(0) if found else ''}"


def test_what_is_installed_is_not_in_the_repository() -> None:
    """Packages come from their locks; none lies among the sources."""
    found = [path for path in _tracked() if {"node_modules", "site-packages"} & set(path.parts[len(ROOT.parts) :])]
    assert not found


def test_licence_and_dependencies_licences_are_listed() -> None:
    """The licence is Apache-2.0 and every pinned run-time dependency stands in the list with its own."""
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    listed = (ROOT / "docs/reference/licences.md").read_text().lower()
    for group in ("base", "llm", "data"):
        for name in re.findall(
            r"^([a-z0-9][a-z0-9._-]*)==", (ROOT / f"requirements/{group}.txt").read_text(), re.MULTILINE
        ):
            assert f"| {name} |" in listed, f"{name} is missing in docs/reference/licences.md"


def test_two_commands_and_ci() -> None:
    """The README names the two commands, and continuous integration runs the second."""
    readme = (ROOT / "README.md").read_text()
    assert "make run" in readme
    assert "make test" in readme
    assert "make test" in (ROOT / ".ci/run").read_text()
