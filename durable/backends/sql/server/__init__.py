"""What every store on a database *server* does, written once. It speaks to a small seam and knows no driver.

The seam, which a server's package (`postgres`, `mysql`) fulfils:

    session.py       `Session` (one transaction on one connection), `Database` (where sessions come from), and the
                     two errors by which a server's answer is told apart: `Again` and `Culprit`
    tables.py        the tables: their columns, the kinds of the columns, their keys

Above it:

    loading.py       locks and reads the rows of a batch into a `Ledger`; what somebody else holds is busy
    saving.py        writes the net changes of a `Ledger`: a fixed number of statements, whatever the size of the batch
    judging.py       lock, judge, write: retries a whole transaction, halves a batch that the server refuses
    one_statement.py    plain batches in one statement, for servers that can do that
    plain_claims.py     claims of runs in one statement after the look
    gathering.py     the group commit: calls that arrive while one of their kind is in flight become one
    reading.py       reads histories
    run_claims.py activity_claims.py     a first look (one statement, and no more when nothing is due), then a claim
    questions.py outbox.py roles.py deletion.py finding.py holdings.py
    audit.py audit_rules.py families.py    looking for damage
    worker_calls.py client_calls.py admin_calls.py     the three parts of the contract
    transaction_calls.py                               the optional part
    store.py         all of it together

Rules that keep it free of deadlocks and right under READ COMMITTED:

- Instance rows come first, by `SKIP LOCKED`, and rows of activities after them, in the same way: nobody waits for
  either. Claims and renewals of activities hold no instance row. Only whoever holds an instance and ends, pauses or
  resumes its run may wait for what else belongs to it.
- What is written was locked before it was read: whole rows are written, and another's change would be undone.
- A run that is to be made has no row to lock: `Session.reserve` stands for it.
- What is read after the lock is read by a later statement, and so is the newest there is.
"""
