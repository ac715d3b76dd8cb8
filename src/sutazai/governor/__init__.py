"""Why it exists: one machine, many processes: somebody must say no before the kernel says it with SIGKILL.

``tickets`` is the gate on every path to a process; ``snapshot`` → ``detectors`` → ``engine`` is what happens once a
tick. Standard library only, no database, no files: it works when the disk is full and the database is locked.
"""
