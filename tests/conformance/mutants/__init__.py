"""Planted bugs: stores that are wrong on purpose, each of which a named law must catch.

The numbers are those of the list of planted bugs (G4). Each mutant is a thin layer over a healthy store which makes
one mistake at the level of the contract, so it can be put over any store.

| number | the bug | whose it is |
|---|---|---|
| 1 | no token check on commit | store: `fences` |
| 2 | check outside the transaction | store: `fences` |
| 3 | expiry by the worker's clock | store: `fences` (the store goes by another clock than its own) |
| 4 | heartbeat without token | store: `fences` |
| 5 | counter-only token | store: `fences` |
| 6 | outbox in a second transaction | store: `outboxes` |
| 7 | outbox cursor by greatest id | store: `outboxes` |
| 8 | signal acknowledged before the insert | store: `inboxes` |
| 9 | look-up of the open run apart from the write of the signal | store: `inboxes` |
| 10 | continue-as-new drops buffered signals | store: `inboxes` |
| 11 | close ignores unread signals | store: `inboxes` |
| 12 | wake-up flag cleared after the read | store: `inboxes` |
| 13 | notify without poll | worker: `workers` |
| 14 | blind retry of an unknown commit | worker: `workers`; the store's part, a repeated call: `batches` |
| 15 | duplicate activity completion accepted | store: `fences` |
| 16 | due time compared in whole seconds | store: `fences`; worker: `workers` |
| 17 | cache kept after a conflict | worker: `workers` |
| 18 | commands in the order of a set | loop and replay: `workers` |
| 19 | recovery at launch only | worker: `workers` |
| 20 | sweeper swallows an error and goes on | worker: `workers` |
| 21 | semaphore freed by one who does not hold it | later (limits); the store's like today, a lease: `fences` |
| 22 | cancelled connection back to the pool | store: `batches` |
| 23 | poison row aborts the batch claim | store: `batches` |
| 24 | rollback of a statement taken for that of the transaction | store: `batches` |
"""
