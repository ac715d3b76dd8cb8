"""Why it exists: the store is the truth: every task, turn, state and event, in named SQL, behind one Protocol.

Operations (``model``) are data; each is one function of (transaction, operation), grouped by what it is about
(``submit``, ``claim``, ``commit``, ``ending``, ``read``). ``driver`` runs them in groups that share one commit; a
database's own part is in ``sqlite`` and ``postgres``. Only the broker opens a store.

What to keep to, so that both databases run it: statements are named in ``queries/*.sql`` and written in what both
understand (``ON CONFLICT``, ``RETURNING``, ``CASE`` in place of ``MIN(a, b)`` and of sums of comparisons, ``CAST(? AS
BIGINT)`` or ``AS TEXT`` where a value stands without a column that gives its type); what cannot be common gets a query
of the same name in ``queries/postgres``. Rows are read with ``fetchone`` and ``fetchall`` only: no ``lastrowid``, no
``rowcount``. A statement whose rows are not read is not waited for. A migration is written for SQLite; PostgreSQL runs
the same file with ``INTEGER`` as ``BIGINT``, or one of the same number in ``migrations/postgres``. A key that SQLite
fills in by itself is filled in there too. ``tests/unit/store/test_dialects.py`` holds all of this.
"""
