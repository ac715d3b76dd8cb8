"""A service that takes so many megabytes as soon as a file appears: filler.py FILE MEGABYTES."""

import sys
import time
from pathlib import Path

go, megabytes = Path(sys.argv[1]), int(sys.argv[2])
while not go.exists():
    time.sleep(0.1)
held = bytearray(megabytes << 20)
for page in range(0, len(held), 4096):
    held[page] = 1  # only what was written to is really there
while True:
    time.sleep(60)
