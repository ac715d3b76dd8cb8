"""Why it exists: a test on a real host switches it on, gives it commands, and pulls its plug.

A machine is one qemu process with a throw-away layer over the kept disk. Commands go over a virtio port (``door.py``
inside), so it needs no network. The disk is opened with ``cache=none``: what the guest has not flushed when qemu is
killed is gone with it (its page cache always, and new blocks of the layer too, because qemu keeps their map in its own
memory until a flush). What was flushed lies in files of this host, whose own power is not cut.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vm_image import NotPossibleError

if TYPE_CHECKING:
    from types import TracebackType

    from vm_image import Image

CORES = 12
MEMORY_MB = 6144
PROBE_S = {"kvm": 30.0, "tcg": 120.0}
BOOT_S = 600.0
POLL_S = 0.05
KVM = Path("/dev/kvm")
WAYS = ("auto", "kvm", "tcg")
QEMU = "qemu-system-x86_64"
SLOW = """
=====================================================================================================================
vm: KVM is not usable here: {why}
vm: the machine is emulated in software (qemu's TCG) instead: the same kernel, systemd and cgroup v2, and 12 virtual
vm: cores, but some 10 to 20 times slower. What follows proves behaviour, and measures no speed.
=====================================================================================================================
"""


def accelerator(image: Image, wanted: str) -> tuple[str, str]:
    """Choose how the machine runs, by starting its kernel: ``/dev/kvm`` alone says little.

    Args:
        image: whose kernel is tried.
        wanted: ``kvm``, ``tcg``, or ``auto``: KVM, else emulation with a loud note.

    Returns:
        ``kvm`` or ``tcg``, and why it is not the other.

    Raises:
        NotPossibleError: it was asked for KVM, and there is none that boots.
    """
    if wanted not in WAYS:
        raise NotPossibleError(f"SUTAZAI_VM_ACCEL={wanted!r} is unknown; write one of: {', '.join(WAYS)}")
    if wanted == "tcg":
        return "tcg", "it was asked for (SUTAZAI_VM_ACCEL=tcg)"
    why = _why_no_kvm(image)
    if not why:
        return "kvm", ""
    if wanted == "kvm":
        raise NotPossibleError(f"KVM: {why}; emulate with: SUTAZAI_VM_ACCEL=tcg make test-vm")
    return "tcg", why


def _why_no_kvm(image: Image) -> str:
    if not KVM.exists():
        return f"there is no {KVM}"
    if not os.access(KVM, os.R_OK | os.W_OK):
        return f"this user may not open {KVM}; run: sudo usermod -aG kvm $USER, and log in again"
    return try_kernel(image, "kvm")


def try_kernel(image: Image, way: str) -> str:
    """Start the kernel without a disk; empty when it comes as far as its initramfs, else the reason."""
    command = [*_common(way), "-m", "1024", "-smp", "2", "-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    command += ["-append", "console=ttyS0 panic=-1 break=top", "-serial", "stdio", "-no-reboot"]
    # Without a disk the initramfs stops at its prompt, and that it came so far is all that is asked.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = bytearray()
    reader = threading.Thread(target=_gather, args=(process, said), daemon=True)
    reader.start()
    give_up_at = time.monotonic() + PROBE_S[way]
    while time.monotonic() < give_up_at and process.poll() is None and not _reached(bytes(said)):
        time.sleep(POLL_S)
    ended = process.poll()
    if ended is None:
        process.kill()
    process.wait()
    reader.join()
    if _reached(bytes(said)):
        return ""
    last = bytes(said).decode(errors="replace").strip().splitlines()[-1:] or ["nothing was printed"]
    if ended is not None:
        return f"qemu ended with {ended}: {last[0][:200]}"
    return f"there is a {KVM}, but a guest's kernel does not come up on it in {PROBE_S['kvm']:.0f} s"


def _gather(process: subprocess.Popen[bytes], said: bytearray) -> None:
    if process.stdout is not None:
        while data := process.stdout.read1(65_536):  # type: ignore[attr-defined]
            said.extend(data)


def _reached(said: bytes) -> bool:
    return b"(initramfs)" in said


def _common(way: str) -> list[str]:
    # Emulation knows no host CPU; a model of the second generation (x86-64-v2) has all that Python's wheels ask for.
    speed = ["-accel", "kvm", "-cpu", "host"] if way == "kvm" else ["-accel", "tcg,thread=multi", "-cpu", "Nehalem"]
    return [QEMU, *speed, "-machine", "q35", "-display", "none", "-monitor", "none", "-nodefaults", "-vga", "none"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a command inside the machine ended with: exit code and its output, both streams."""

    code: int
    out: str


@dataclass
class Machine:
    """One machine, switched off and on as often as a test likes; leaving it removes its disk and process.

    Attributes:
        image: kept parts.
        way: ``kvm`` or ``tcg``.
        cargo: read-only second disk (``/dev/vdb``), or None.
        cache: qemu's cache mode; ``unsafe`` drops the guest's flushes, for a control that loses.
    """

    image: Image
    way: str
    cargo: Path | None = None
    cache: str = "none"
    folder: Path = field(init=False)
    accepted: list[str] = field(init=False, default_factory=list)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)
    _door: socket.socket | None = field(init=False, default=None)
    _noter: threading.Thread | None = field(init=False, default=None)
    _answers: dict[int, Said] = field(init=False, default_factory=dict)
    _boots: list[str] = field(init=False, default_factory=list)
    _changed: threading.Condition = field(init=False, default_factory=threading.Condition)
    _next: int = field(init=False, default=0)

    def __enter__(self) -> Self:
        """Make the layer; switches nothing on."""
        self.folder = Path(tempfile.mkdtemp(prefix="sutazai-vm-", dir=self.image.disk.parents[1]))
        base = ["-F", "raw", "-b", str(self.image.disk)]
        layer = ["qemu-img", "create", "-q", "-f", "qcow2", *base, str(self.folder / "layer.qcow2")]
        try:
            subprocess.run(layer, check=True, capture_output=True)
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Pull the plug and remove the layer, whatever happened."""
        try:
            self.cut()
        finally:
            shutil.rmtree(self.folder)

    @property
    def pid(self) -> int:
        """Process id of qemu; 0 when the machine is off."""
        return self._process.pid if self._process is not None else 0

    def switch_on(self) -> float:
        """Boot; returns when commands are taken, with the seconds that it took.

        Raises:
            RuntimeError: it did not come up; the end of its console is in the message.
        """
        started = time.monotonic()
        for name in ("door", "accepted"):
            (self.folder / name).unlink(missing_ok=True)
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        before = len(self._boots)
        self._door = self._connect("door")
        threading.Thread(target=self._listen, args=(self._door,), daemon=True).start()
        self._noter = threading.Thread(target=self._note, args=(self._connect("accepted"),), daemon=True)
        self._noter.start()
        self._wait_boot(before)
        return time.monotonic() - started

    def _command(self) -> list[str]:
        disk = f"file={self.folder / 'layer.qcow2'},if=none,id=root,format=qcow2,cache={self.cache},aio=threads"
        command = [*_common(self.way), "-m", str(MEMORY_MB), "-smp", str(CORES), "-drive", disk]
        command += ["-device", "virtio-blk-pci,drive=root", "-device", "virtio-rng-pci"]
        if self.cargo is not None:
            command += ["-drive", f"file={self.cargo},if=none,id=cargo,format=raw,readonly=on"]
            command += ["-device", "virtio-blk-pci,drive=cargo"]
        command += ["-device", "virtio-serial-pci"]
        for name in ("door", "accepted"):
            command += ["-chardev", f"socket,path={self.folder / name},server=on,wait=off,id={name}"]
            command += ["-device", f"virtserialport,chardev={name},name=sutazai.{name}"]
        command += ["-serial", f"file:{self.folder / 'console.log'}"]
        command += ["-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)]
        return [*command, "-append", "root=/dev/vda rw console=ttyS0 psi=1 panic=-1 systemd.show_status=1"]

    def _connect(self, name: str) -> socket.socket:
        give_up_at = time.monotonic() + PROBE_S["tcg"]
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.folder / name))
            except OSError as error:
                connection.close()
                if self._process is None or self._process.poll() is not None or time.monotonic() > give_up_at:
                    raise RuntimeError(f"qemu did not start: {self._tail('qemu.log')}") from error
                time.sleep(POLL_S)
            else:
                return connection

    def _listen(self, door: socket.socket) -> None:
        for line in _lines(door):
            try:
                message: dict[str, Any] = json.loads(line)
            except ValueError:  # the first bytes after a boot may be the rest of a line from before
                continue
            with self._changed:
                if "hello" in message:
                    self._boots.append(message["hello"])
                else:
                    self._answers[message["id"]] = Said(message["code"], message["out"])
                self._changed.notify_all()

    def _note(self, port: socket.socket) -> None:
        for line in _lines(port):
            self.accepted.append(line.decode(errors="replace").strip())

    def told(self, what: str) -> int:
        """Count what the load inside has told: ``task`` (accepted) or ``control`` (written without a sync)."""
        return sum(line.startswith(f"{what} ") for line in self.accepted)

    def _wait_boot(self, before: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._boots) > before, BOOT_S):
                raise RuntimeError(f"the machine did not come up in {BOOT_S:.0f} s:\n{self._tail('console.log')}")

    def _tail(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace")[-3_000:] if path.exists() else ""

    def run(self, command: str, *, timeout_s: float = 300.0) -> Said:
        """Run a shell command inside as root, and give what it said.

        Raises:
            RuntimeError: the machine did not answer.
        """
        number = self._send(command, timeout_s)
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._answers, timeout_s + 60):
                raise RuntimeError(f"no answer to {command!r}:\n{self._tail('console.log')}")
            return self._answers.pop(number)

    def start(self, command: str, *, timeout_s: float = 600.0) -> None:
        """Run a command inside and do not wait for it."""
        self._send(command, timeout_s)

    def _send(self, command: str, timeout_s: float) -> int:
        if self._door is None:
            raise RuntimeError("the machine is off")
        self._next += 1
        line = json.dumps({"id": self._next, "command": command, "timeout_s": timeout_s})
        self._door.sendall(line.encode() + b"\n")
        return self._next

    def reboot(self) -> float:
        """Reboot as a person would; returns when commands are taken again, with the seconds that it took."""
        started, before = time.monotonic(), len(self._boots)
        self.start("systemctl reboot")
        self._wait_boot(before)
        return time.monotonic() - started

    def cut(self) -> None:
        """Pull the plug: SIGKILL to qemu."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None
        if self._noter is not None:
            self._noter.join()  # what was told before the cut has arrived
        if self._door is not None:
            self._door.close()
            self._door = None


def _lines(connection: socket.socket) -> Any:
    buffer = b""
    while True:
        try:
            data = connection.recv(65_536)
        except OSError:
            return
        if not data:
            return
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            yield buffer[:end]
            buffer = buffer[end + 1 :]


def note(way: str, why: str) -> None:
    """Say loudly that this is not what was asked for."""
    if way == "tcg":
        sys.__stdout__.write(SLOW.format(why=why)) if sys.__stdout__ else None
