"""Why it exists: the broker: the only writer of the store, and the only one who decides which instance gets which task.

Deciding is apart from doing. ``broker`` and the desks it is made of (``clients``, ``instances``, ``leases``,
``dispatch``, ``demand``, ``watch``) do no I/O: messages and time come in, operations on the store and messages go out,
so that the seeded simulation runs the very code that ships. ``server``, ``writer``, ``link`` and ``__main__`` connect
it to sockets, to the disk and to ``sutazaid``.
"""
