"""What all SQL stores share: the judging of requests. Pure: rows come in, verdicts and net changes go out, no I/O.

A SQL store answers a batch in three steps: it *locks* (reads) the rows that the batch needs into a `Ledger`, it has
the items *judged* one after the other, and it *writes* the net change of each row once.

    rows.py          the rows as records that can be changed, and what is derived from their fields
    ledger.py        the working set of one batch: what was read, and what will be written
    needs.py         which rows a request needs
    inbox.py         how a message gets into an inbox
    creating.py      judges `create` (and the children and next runs of checkpoints)
    ending.py        what goes with a run when it ends
    checkpoints.py   judges `commit`
    changes.py       judges `change`, `release`, `extend` and claims of runs
    attempts.py      judges what concerns activities
    history.py       how events are kept in a row
    handed.py        what a claim was handed, for when it is repeated
    server/          what stores on a database server share beyond that; with I/O, through a seam
"""
