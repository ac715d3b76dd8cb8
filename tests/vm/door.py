"""Why it exists: the tests give commands to the test machine without network, login or ssh.

Runs inside the machine as a service of its own, so that nothing it starts belongs to a fleet. One JSON object a line
over a virtio port: ``{"id", "command", "timeout_s"}`` is answered by ``{"id", "code", "out"}``; each start says
``{"hello": <id of this boot>}``. Commands run at the same time. Standard library only.
"""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

PORT = "/dev/virtio-ports/sutazai.door"
OUT_BYTES_MAX = 400_000
PORT_WAIT_S = 60.0
POLL_S = 0.1


def answer(port: int, lock: threading.Lock, request: dict) -> None:
    """Run one command in a shell, and send what it said."""
    try:
        done = subprocess.run(  # noqa: S602 the tests' own commands, in a machine that is thrown away
            request["command"],
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=request["timeout_s"],
            check=False,
            cwd="/",
            env={**os.environ, "HOME": "/root", "LANG": "C.UTF-8", "NO_COLOR": "1", "COLUMNS": "200"},
        )
        code, out = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        code, out = 124, (error.stdout or b"") + b"\n(out of time)"
    send(port, lock, {"id": request["id"], "code": code, "out": out[-OUT_BYTES_MAX:].decode(errors="replace")})


def send(port: int, lock: threading.Lock, message: dict) -> None:
    """Write one line, whole."""
    data = json.dumps(message).encode() + b"\n"
    with lock:
        while data:
            data = data[os.write(port, data) :]


def main() -> None:
    """Serve until the machine ends."""
    give_up_at = time.monotonic() + PORT_WAIT_S
    while not Path(PORT).exists() and time.monotonic() < give_up_at:
        time.sleep(POLL_S)
    port = os.open(PORT, os.O_RDWR)
    lock = threading.Lock()
    send(port, lock, {"hello": Path("/proc/sys/kernel/random/boot_id").read_text().strip()})
    buffer = b""
    while True:
        data = os.read(port, 65_536)
        if not data:  # nobody is connected on the other side
            time.sleep(POLL_S)
            continue
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            line, buffer = buffer[:end], buffer[end + 1 :]
            threading.Thread(target=answer, args=(port, lock, json.loads(line)), daemon=True).start()


if __name__ == "__main__":
    main()
