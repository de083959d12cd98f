"""How a message gets into an inbox: judges `send`, and the `Send` of checkpoints."""

from __future__ import annotations

from durable.backends.limits import refuse_message
from durable.backends.records import (
    MAX_UNREAD_MESSAGES,
    Accepted,
    Finished,
    Full,
    NewMessage,
    NotFound,
    Refused,
)
from durable.backends.sql.ledger import Ledger
from durable.backends.sql.rows import RunRow


def judge_send(ledger: Ledger, message: NewMessage) -> Accepted | NotFound | Finished | Full | Refused:
    """A message from a client."""
    if refused := refuse_message(message):
        return refused
    return deliver(ledger, message)


def deliver(ledger: Ledger, message: NewMessage) -> Accepted | NotFound | Finished | Full:
    """Put a message into the inbox that it names. A key seen before is accepted, whatever has become of the run."""
    if ledger.runs[message.instance_id] is None:
        return NotFound()
    if ledger.knows_key(message.instance_id, message.key):
        return Accepted()
    row = ledger.run(message.instance_id, message.run_id)
    if row is None:
        return NotFound()
    if not row.open:
        return Finished(state=row.state)
    if row.sent - row.seen >= MAX_UNREAD_MESSAGES:
        return Full()
    put(ledger, row, message)
    return Accepted()


def put(ledger: Ledger, row: RunRow, message: NewMessage) -> None:
    """Put a message with a key into an inbox, and remember the key."""
    ledger.new_keys[message.instance_id, message.key] = None
    ledger.put(row, message.key, message.kind, message.body, message.run_id)
