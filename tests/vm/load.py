"""Why it exists: what was accepted must be known outside of the machine whose power is cut.

Runs inside the machine: ``load.py PORT_OF_AGENT TOKEN_FILE SCRATCH``. Four clients give tasks to the gateway over HTTP,
and each identifier that was answered with 202 goes out over a virtio port at once. Beside them a control writes
numbered lines to a file without a sync, and reports each: what is lost of those shows what a cut takes.
"""

import http.client
import json
import os
import sys
import threading
import time
from pathlib import Path

CLIENTS = 4
RUN = os.urandom(8).hex()
CONTROL_PAUSE_S = 0.2


def give(agent_port: int, token: str, client: int, out: int) -> None:
    """Give one task after the other until the machine dies."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", agent_port, timeout=60)
    number = 0
    while True:
        number += 1
        body = json.dumps({"skill": "work", "input": {"number": number}})
        connection.request("POST", "/tasks", body, {**headers, "Idempotency-Key": f"{RUN}-{client}-{number}"})
        response = connection.getresponse()
        answer = response.read()
        if response.status == 202:
            os.write(out, f"task {json.loads(answer)['id']}\n".encode())
        else:
            os.write(out, f"refused {response.status} {answer[:200]!r}\n".encode())


def write_unsynced(path: Path, out: int) -> None:
    """Append numbered lines, as a program does that thinks of no power cut."""
    with path.open("w") as file:
        number = 0
        while True:
            number += 1
            file.write(f"{number}\n")
            file.flush()
            os.write(out, f"control {number}\n".encode())
            time.sleep(CONTROL_PAUSE_S)


def main() -> None:
    """Start all; never ends."""
    agent_port, token, scratch = int(sys.argv[1]), Path(sys.argv[2]).read_text().strip(), Path(sys.argv[3])
    out = os.open("/dev/virtio-ports/sutazai.accepted", os.O_WRONLY)
    threads = [threading.Thread(target=give, args=(agent_port, token, client, out)) for client in range(CLIENTS)]
    threads.append(threading.Thread(target=write_unsynced, args=(scratch, out)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
