"""Why it exists: a network that loses every packet and tells nobody is the one fault that no signal can imitate.

``Island`` is a Linux network namespace whose only way out is one link. What runs in it reaches the servers on this
machine's ``127.0.0.1`` over that link, with real TCP on both sides; ``cut`` then drops every packet in both directions
until its block ends: no reset, no word of an unreachable host, and the interfaces stay up.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sutazai.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

INSTALL = "apt-get install -y --no-install-recommends iproute2"
#: Addresses of the links, one of its /30 networks for each: those of tests between machines (RFC 2544).
_ADDRESSES = ipaddress.ip_network("198.18.0.0/15")
_MAC_OUTSIDE, _MAC_INSIDE = "02:00:00:00:00:01", "02:00:00:00:00:02"


def _program(name: str) -> str:
    """Find a program of iproute2; some are only in folders that a short ``PATH`` leaves out."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    if (found := shutil.which(name, path=path)) is None:
        raise HostError(f"{name} is not installed; run: {INSTALL}")
    return found


def _run(*words: str) -> None:
    done = subprocess.run([_program(words[0]), *words[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"{' '.join(words)}: {done.stderr.strip()}")


class Island:
    """A network namespace behind a link that can be cut.

    Raises:
        HostError: namespaces, links or queueing disciplines cannot be made here (root is needed).
    """

    def __init__(self) -> None:
        self._name = f"sutazai{os.getpid()}"
        self._outer, self._inner = f"so{os.getpid()}", f"si{os.getpid()}"
        first = _ADDRESSES[os.getpid() * 4 % _ADDRESSES.num_addresses]
        #: Of the two ends of the link.
        self.outside, self.inside = str(first + 1), str(first + 2)
        _program("tc")  # before anything is made
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        name, outer, inner = self._name, self._outer, self._inner
        if os.geteuid() != 0:
            raise HostError("a network namespace with a link to this one needs root")
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", outer, "address", _MAC_OUTSIDE, "type", "veth",
             "peer", "name", inner, "address", _MAC_INSIDE, "netns", name)  # fmt: skip
        _run("ip", "address", "add", f"{self.outside}/30", "dev", outer)
        _run("ip", "-n", name, "address", "add", f"{self.inside}/30", "dev", inner)
        _run("ip", "link", "set", outer, "up")
        _run("ip", "-n", name, "link", "set", inner, "up")
        # Fixed neighbours: else the kernel itself finds out that the other side is silent, and says "unreachable".
        _run("ip", "neighbour", "add", self.inside, "lladdr", _MAC_INSIDE, "dev", outer)
        _run("ip", "-n", name, "neighbour", "add", self.outside, "lladdr", _MAC_OUTSIDE, "dev", inner)
        # The island's own loopback stays down, so that 127.0.0.1 is the one outside.
        Path(f"/proc/sys/net/ipv4/conf/{outer}/route_localnet").write_text("1")
        _run(*self.prefix, "sh", "-c", f"echo 1 > /proc/sys/net/ipv4/conf/{inner}/route_localnet")
        _run("ip", "-n", name, "route", "add", "127.0.0.0/8", "via", self.outside)

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before a command that is to run on the island."""
        return ("nsenter", f"--net=/run/netns/{self._name}")

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Let every packet vanish, in both directions, until the block ends."""
        doors = (("tc", "qdisc"), ("tc", "-n", self._name, "qdisc"))
        devices = (self._outer, self._inner)
        for door, device in zip(doors, devices, strict=True):
            _run(*door, "replace", "dev", device, "root", "blackhole")
        try:
            yield
        finally:
            for door, device in zip(doors, devices, strict=True):
                _run(*door, "delete", "dev", device, "root")

    def __enter__(self) -> Self:
        """It is there already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self.close()

    def close(self) -> None:
        """Take it and its link away; what runs in it should have ended."""
        for words in (("link", "delete", self._outer), ("netns", "delete", self._name)):
            with contextlib.suppress(HostError):  # it was not made
                _run("ip", *words)
