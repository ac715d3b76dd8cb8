"""Why it exists: a test on a real host needs a host: this makes the disk of one, once, and keeps it.

The disk is Debian (systemd, cgroup v2) with Python, git and make, and with the Python packages that the requirements
pin, in ``/srv/kept/.venv``; the clone that is tested is made in each run. It stands in ``$XDG_CACHE_HOME/sutazai/vm``,
under a digest of what it was made from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
REPO = HERE.parents[1]
APT_FOLDER = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DISK_SIZE = "6G"
REQUIREMENTS = ("build", "base", "llm", "data")
INSIDE = (
    "systemd-sysv,dbus,libpam-systemd,udev,kmod,procps,python3-venv,git,make,ca-certificates,initramfs-tools,"
    "linux-image-cloud-amd64"
)
#: Programs that are needed here, and the package of each.
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
}


class NotPossibleError(Exception):
    """The test cannot be made on this machine; the text says why, and the command that mends it."""


@dataclass(frozen=True, slots=True)
class Image:
    """A machine's parts, never written again."""

    disk: Path
    kernel: Path
    initrd: Path


def missing_tools() -> list[str]:
    """Names of the packages that are not installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None]


def install_tools() -> None:
    """Install what is missing.

    Raises:
        NotPossibleError: this user may not, or the packages cannot be had.
    """
    packages = missing_tools()
    if not packages:
        return
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    by_hand = f"run: sudo apt-get update && sudo {' '.join(command)}"
    if os.geteuid() != 0:
        raise NotPossibleError(f"{', '.join(packages)} not installed; {by_hand}")
    print(f"vm: installing {' '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "-qq"], command):
        done = subprocess.run(step, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise NotPossibleError(f"{', '.join(packages)} cannot be installed: {done.stderr[-500:]}; {by_hand}")


def codename(os_release: str) -> str:
    """Find the distribution's name for its release; empty when the file does not say."""
    for line in os_release.splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip().strip('"')
    return ""


def sources(texts: dict[str, str], release: str) -> list[str]:
    """Read the distribution's own mirrors out of apt's files, as lines for another ``sources.list``.

    Args:
        texts: content by file name, ``*.list`` (one line each) and ``*.sources`` (paragraphs).
        release: code name; entries of other archives are left out.
    """
    suites = {release, f"{release}-updates", f"{release}-security"}
    found: dict[str, None] = {}
    for name, text in sorted(texts.items()):
        entries = _paragraphs(text) if name.endswith(".sources") else _lines(text)
        for option, uris, its_suites, components in entries:
            if "main" in components:
                for uri in uris:
                    for suite in its_suites:
                        if suite in suites:
                            found[f"deb {option}{uri} {suite} main"] = None
    return list(found)


_Entry = tuple[str, list[str], list[str], list[str]]


def _lines(text: str) -> list[_Entry]:
    entries = []
    for line in text.splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind != "deb":
            continue
        option = ""
        if rest.startswith("["):
            option, _, rest = rest.partition("]")
            option = _signed(option.strip("[ ").split())
        words = rest.split()
        entries.append((option, words[:1], words[1:2], words[2:]))
    return entries


def _paragraphs(text: str) -> list[_Entry]:
    entries = []
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        fields = {key.lower(): value.split() for key, colon, value in (line.partition(":") for line in lines) if colon}
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            option = _signed([f"signed-by={','.join(fields.get('signed-by', []))}"])
            entries.append((option, fields.get("uris", []), fields.get("suites", []), fields.get("components", [])))
    return entries


def _signed(options: list[str]) -> str:
    kept = [option for option in options if option.startswith("signed-by=/")]
    return f"[{kept[0]}] " if kept else ""


def cache() -> Path:
    """Folder of what is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sutazai/vm"


def digest() -> str:
    """Name of the disk: changes with everything that it is made from, but not with the tested code."""
    parts = [INSIDE, DISK_SIZE, codename(OS_RELEASE.read_text())]
    parts += [(HERE / name).read_text() for name in ("customize.sh", "door.py")]
    parts += [(REPO / f"requirements/{group}.txt").read_text() for group in REQUIREMENTS]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def image() -> Image:
    """Give the disk, made when there is none; some minutes and a mirror of Debian the first time.

    Raises:
        NotPossibleError: it cannot be made here.
    """
    folder = cache() / digest()
    found = Image(folder / "root.ext4", folder / "vmlinuz", folder / "initrd.img")
    if folder.is_dir():
        return found
    if os.geteuid() != 0:
        raise NotPossibleError(f"{folder} is missing and only root can make it; run: sudo make test-vm")
    cache().mkdir(parents=True, exist_ok=True)
    print(f"vm: making the disk of the test machine in {folder}; once, some minutes", flush=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix="new-") as text:
        new = Path(text)
        _make(new)
        _drop_old()
        new.chmod(0o755)
        new.rename(folder)
        new.mkdir()  # for the context manager to remove
    return found


def _make(folder: Path) -> None:
    release = codename(OS_RELEASE.read_text())
    files = [APT_FOLDER / "sources.list", *APT_FOLDER.glob("sources.list.d/*")]
    lines = sources({file.name: file.read_text() for file in files if file.is_file()}, release)
    if not lines:
        raise NotPossibleError(f"apt's configuration names no mirror of {release or 'a Debian release'} with main")
    (folder / "mirrors.list").write_text("\n".join(lines) + "\n")
    tree = folder / "tree"
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={INSIDE}"]
    command += ['--aptopt=Acquire::Languages "none"', "--dpkgopt=path-exclude=/usr/share/doc/*"]
    command += [f'--customize-hook={HERE / "customize.sh"} "$1"', release, str(tree), str(folder / "mirrors.list")]
    environment = {**os.environ, "REPO": str(REPO), "CA": str(CERTIFICATES) if CERTIFICATES.is_file() else ""}
    log = folder / "build.log"
    _step(command, log, environment)
    shutil.copy(next(tree.glob("boot/vmlinuz-*")), folder / "vmlinuz")
    shutil.copy(next(tree.glob("boot/initrd.img-*")), folder / "initrd.img")
    _step(["mkfs.ext4", "-q", "-F", "-d", str(tree), str(folder / "root.ext4"), DISK_SIZE], log, dict(os.environ))
    shutil.rmtree(tree)


def _step(command: list[str], log: Path, environment: dict[str, str]) -> None:
    environment["PATH"] = f"{environment.get('PATH', '')}:/usr/sbin:/sbin"
    with log.open("ab") as out:
        done = subprocess.run(command, stdout=out, stderr=out, check=False, env=environment)
    if done.returncode != 0:
        raise NotPossibleError(f"{command[0]} failed:\n{log.read_text(errors='replace')[-3_000:]}")


def _drop_old() -> None:
    for old in cache().iterdir():
        if (old / "root.ext4").is_file() and not old.name.startswith("new-"):
            shutil.rmtree(old)
