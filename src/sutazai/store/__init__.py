"""Why it exists: the store is the truth: every task, turn, state and event, in named SQL, behind one Protocol.

Operations (``model``) are data; each is one function of (transaction, operation), grouped by what it is about
(``submit``, ``claim``, ``commit``, ``ending``, ``read``). A driver (``sqlite``) runs them in groups that share one
commit. Only the broker opens a store.
"""
