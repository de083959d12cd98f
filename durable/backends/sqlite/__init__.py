"""The SQLite store: one file, several processes of one host.

opening.py          the address, the file, the schema, the settings
lane.py             a thread with a queue of calls: the group commit
crews.py            the writer's and the reader's connection; transactions; checkpoints; hearing others
calls.py            a batch: read the rows, have them judged (`durable.backends.sql`), write
rows_io.py          reading and writing rows
worker_calls.py client_calls.py admin_calls.py     the three parts of the contract
run_claims.py activity_claims.py questions.py outbox.py deletion.py finding.py    what they need
audit.py audit_rules.py holdings.py     looking for damage: the pass, its rules, and what the pass above asks for
transactions.py     the optional part: transactions of callers and of activities
borrowed.py         a caller's connection, and work in its transaction
migrations/         the schema
"""

from durable.backends.sqlite.store import SqliteStore, open_store

__all__ = ["SqliteStore", "open_store"]
