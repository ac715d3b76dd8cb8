"""A service that forks until the kernel says no, and writes down how often it could."""

import os
import signal

count = 0
while True:
    try:
        if os.fork() == 0:
            signal.pause()
    except BlockingIOError:
        break
    count += 1
    if count > 100:
        break
print(f"forked {count} times, then the kernel said no", flush=True)
signal.pause()
