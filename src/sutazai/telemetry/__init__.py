"""Why it exists: what a fleet says about itself has one vocabulary, wherever it is written or read.

One table of metric names, one registry of conditions, one form of an event, one small metric ring on disk. Writers
(``sutazaid``, the broker, control) and readers (agents, the command line) meet here and nowhere else.

``conditions`` and ``names`` are standard library only, because the supervisor imports them.
"""
