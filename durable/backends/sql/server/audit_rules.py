"""What must never be in the tables, as far as it can be seen without reading events: one question each, and its answer.

The rules are those of the SQLite store. Each is one statement, and so looks at one moment: a healthy store has nothing
that any of them finds, however much is going on in it. What is found names itself and what is to be written, so that
it can be mended by key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from durable.backends.sql.changes import NEVER_US
from durable.backends.sql.server.tables import (
    ACTIVITIES,
    CLOSINGS,
    INBOX,
    INSTANCES,
    MESSAGE_KEYS,
    PAST_RUNS,
    QUESTIONS,
    UPDATE_REPLIES,
    Table,
)

NOW = "now"
CONSTANTS: Mapping[str, object] = {
    "never": NEVER_US,
    "none": None,
    "nothing": "",
    "one": 1,
    "stalled": "stalled",
    "continued": "continued_as_new",
    "torn": json.dumps(
        {"kind": "unreadable", "message": "the history does not fit its head; see the audit of the store"}
    ),
}
"""What a repair may write beside what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Set columns of the row. Values are names: of found columns, of `CONSTANTS`, or `NOW`."""

    table: Table
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Remove the row."""

    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    """Add a row, unless it is there. ``values`` as for `Update`, of all columns."""

    table: Table
    values: Mapping[str, str]


Mend = Update | Delete | Insert


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What must never be.

    ``find`` begins with ``FROM``; of what it finds, ``key`` (part, instance id, run id) and then ``columns`` are read:
    a name for each expression. ``detail`` may name them. ``only_if``: a found column that must be 1 for the repair.
    ``heals=False``: that is not a repair, it only keeps the damage from spreading.
    """

    name: str
    detail: str
    find: str
    key: tuple[str, str, str]
    columns: Mapping[str, str] = field(default_factory=dict)
    mend: Mend | None = None
    done: str = ""
    only_if: str | None = None
    heals: bool = True

    @property
    def sql(self) -> str:
        """The whole statement."""
        named = [*zip(("part", "instance_id", "run_id"), self.key, strict=True), *self.columns.items()]
        return f"SELECT {', '.join(f'{sql} AS {name}' for name, sql in named)} {self.find}"


_OPEN = "('running', 'paused', 'stalled')"
_I2, _I3, _I4 = "I2 gap-free", "I3 one end", "I4 an end is an end"
_I7, _I8 = "I7 nothing waits on nothing", "I8 nothing outlives its cause"
_I14 = "I14 each message once"
_NO_RUN = "''"


def _of(alias: str, run_id: str | None = None) -> tuple[str, str, str]:
    return f"{alias}.part", f"{alias}.instance_id", f"{alias}.run_id" if run_id is None else run_id


def _runs(
    name: str,
    detail: str,
    where: str,
    values: Mapping[str, str] | None = None,
    done: str = "",
    columns: Mapping[str, str] | None = None,
    table: Table = INSTANCES,
) -> Rule:
    """On the runs of a table, with the alias ``i``."""
    mend = Update(table=table, values=values) if values else None
    find = f"FROM @{table.name} AS i WHERE {where}"
    return Rule(
        name=name, detail=detail, find=find, key=_of("i"), columns=columns or {}, mend=mend, done=done
    )


def _dropped(
    table: Table,
    detail: str,
    where: str,
    columns: Mapping[str, str],
    *,
    name: str = _I8,
    run_id: str | None = None,
) -> Rule:
    """On rows that have nothing to be there for, with the alias ``x``."""
    return Rule(
        name=name,
        detail=detail,
        find=f"FROM @{table.name} AS x WHERE {where}",
        key=_of("x", run_id),
        columns=columns,
        mend=Delete(table=table),
        done="the row was removed",
    )


def _any_run(condition: str = "") -> str:
    """There is a run, current or earlier, that the row ``x`` belongs to."""
    return " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} AS r WHERE r.part = x.part AND r.instance_id = x.instance_id "
        f"AND r.run_id = x.run_id{condition})"
        for table in ("@instances", "@past_runs")
    )


def _found(rest: str) -> str:
    """One of these rows, or NULL, looked up for each row: of ``EXISTS`` a planner makes a join, and where it takes a
    table for small that has grown, one that compares each row with each.
    """
    return f"(SELECT 1 {rest} LIMIT 1)"


_NO_INSTANCE = (
    _found("FROM @instances AS r WHERE r.part = x.part AND r.instance_id = x.instance_id") + " IS NULL"
)
# Where there is a history, somebody removed the instance's row by hand, and what is left may serve to bring it back.
_FORGOTTEN = (
    f"{_NO_INSTANCE} AND "
    f"{_found('FROM @history AS h WHERE h.part = x.part AND h.instance_id = x.instance_id')} IS NULL"
)

# --- histories and ends

_HISTORY = (
    "(SELECT h.part, h.instance_id, h.run_id, min(h.first_number) AS lowest, max(h.last_number) AS highest, "
    "sum(h.last_number - h.first_number + 1) AS total FROM @history AS h GROUP BY h.part, h.instance_id, h.run_id)"
)


def _gap(table: Table, mend: Mend | None) -> Rule:
    return Rule(
        name=_I2,
        detail="the head has number {head}, the history {total} events ({lowest} to {highest})",
        find=f"FROM @{table.name} AS i LEFT JOIN {_HISTORY} AS g ON g.part = i.part "
        "AND g.instance_id = i.instance_id AND g.run_id = i.run_id "
        "WHERE g.lowest IS NULL OR g.lowest <> 1 OR g.highest <> i.head_number OR g.total <> i.head_number",
        key=_of("i"),
        columns={
            "head": "i.head_number",
            "total": "coalesce(g.total, 0)",
            "lowest": "coalesce(g.lowest, 0)",
            "highest": "coalesce(g.highest, 0)",
            "goes_on": "CASE WHEN i.state = 'running' THEN 1 ELSE 0 END",
        },
        mend=mend,
        done="no event can be made up, so the run is parked (stalled) if it was running",
        only_if="goes_on",
        heals=False,
    )


_PARK = Update(
    table=INSTANCES,
    values={
        "state": "stalled",
        "problem": "torn",
        "problem_build": "nothing",
        "problem_stalls": "one",
        **dict.fromkeys(("lease_owner", "lease_until_us", "claim_token", "claimable_at_us"), "none"),
        "retry_at_us": "never",
        "retryable_at_us": "never",
    },
)
_TIMES = (
    *("lease_owner", "lease_until_us", "claim_token", "wake_at_us", "ready_at_us", "claimable_at_us"),
    *("retryable_at_us", "overdue_at_us"),
)
_LEFT = (
    f"i.state NOT IN {_OPEN} AND (i.lease_owner IS NOT NULL OR i.wake_at_us IS NOT NULL OR i.ready_at_us IS NOT NULL "
    "OR i.claimable_at_us IS NOT NULL OR i.retryable_at_us IS NOT NULL OR i.overdue_at_us IS NOT NULL)"
)
_STATE = {"state": "i.state", "closed": "coalesce(i.closed_at_us, 0)"}
_CONTINUED = "i.closed_at_us IS NOT NULL AND i.next_run_id IS NOT NULL"

_ENDS = (
    _gap(INSTANCES, _PARK),
    _gap(PAST_RUNS, None),
    _runs(
        _I3,
        "the run is {state}, but closed at {closed}",
        f"(i.state IN {_OPEN} AND i.closed_at_us IS NOT NULL) OR (i.state NOT IN {_OPEN} AND i.closed_at_us IS NULL)",
        columns=_STATE,
    ),
    _runs(
        _I3,
        "the run is {state}, but closed at never",
        f"i.state NOT IN {_OPEN} AND i.closed_at_us IS NULL",
        columns={"state": "i.state"},
        table=PAST_RUNS,
    ),
    _runs(
        _I4,
        "a lease or a time is left of a finished run",
        _LEFT,
        dict.fromkeys(_TIMES, "none"),
        "they were cleared",
    ),
    _dropped(
        ACTIVITIES,
        "the run has finished, and its activity {number} is still there",
        _any_run(f" AND r.state NOT IN {_OPEN}"),
        {"number": "x.number"},
        name=_I4,
    ),
    _runs(
        "I5 one unfinished run",
        "an earlier run that was continued is {state}",
        f"i.state IN {_OPEN} AND {_CONTINUED}",
        {"state": "continued"},
        "its state is continued_as_new again",
        {"state": "i.state"},
        PAST_RUNS,
    ),
    _runs(
        "I5 one unfinished run",
        "an earlier run is {state}, and nothing says how it ended",
        f"i.state IN {_OPEN} AND NOT ({_CONTINUED})",
        columns={"state": "i.state"},
        table=PAST_RUNS,
    ),
)

# --- readiness of runs

_OF_RUN = "m.part = i.part AND m.instance_id = i.instance_id"
_UNREAD = _found(f"FROM @inbox AS m WHERE {_OF_RUN} AND m.number > i.seen") + " IS NOT NULL"
_ENDLESS = f"i.state IN {_OPEN} AND i.lease_owner IS NOT NULL AND i.lease_until_us IS NULL"
_ASLEEP = "i.state = 'running' AND i.lease_owner IS NULL AND i.ready_at_us IS NULL"
_LOST_MESSAGE = f"{_ASLEEP} AND {_UNREAD}"
_LOST_TIMER = f"{_ASLEEP} AND i.wake_at_us IS NOT NULL AND NOT ({_UNREAD})"
_LOST_CLAIM = f"{_ASLEEP} AND i.wake_at_us IS NULL AND i.claims > 0 AND NOT ({_UNREAD})"
_WHERE_CLAIMS_LOOK = "CASE WHEN i.lease_owner IS NOT NULL THEN i.lease_until_us ELSE i.ready_at_us END"
_MISPLACED = (
    f"i.state = 'running' AND coalesce(i.claimable_at_us, -1) <> coalesce({_WHERE_CLAIMS_LOOK}, -1) "
    "AND (i.lease_owner IS NULL OR i.lease_until_us IS NOT NULL) "
    f"AND NOT ({_LOST_MESSAGE}) AND NOT ({_LOST_TIMER}) AND NOT ({_LOST_CLAIM})"
)
_RETRY = (
    "greatest(coalesce(i.retry_at_us, 0), "
    "CASE WHEN i.lease_owner IS NOT NULL THEN coalesce(i.lease_until_us, 0) ELSE 0 END)"
)
_MADE_READY = {"ready_at_us": NOW, "claimable_at_us": NOW}

_READINESS = (
    _runs(
        _I7,
        "the lease of {owner} has no end",
        _ENDLESS,
        {
            "lease_owner": "none",
            "claim_token": "none",
            "ready_at_us": NOW,
            "claimable_at_us": "claimable",
            "retryable_at_us": "retryable",
        },
        "the lease was taken away",
        {
            "owner": "i.lease_owner",
            "claimable": "CASE WHEN i.state = 'running' THEN @now END",
            "retryable": "CASE WHEN i.state = 'stalled' THEN coalesce(i.retry_at_us, 0) END",
        },
    ),
    _runs(
        _I7,
        "a message has not been seen, but the run is neither ready nor leased",
        _LOST_MESSAGE,
        _MADE_READY,
        "the run was made ready",
    ),
    _runs(
        _I7,
        "a timer is set, but the run will not be ready when it is due",
        _LOST_TIMER,
        {"ready_at_us": "due", "claimable_at_us": "due"},
        "the run will be ready when the timer is due",
        {"due": "i.wake_at_us"},
    ),
    _runs(
        _I7,
        "the run was claimed, nothing came of it, and nobody has it",
        _LOST_CLAIM,
        _MADE_READY,
        "the run was made ready",
    ),
    _runs(
        _I7,
        "the run is not where claims look for it",
        _MISPLACED,
        {"claimable_at_us": "due"},
        "it was put there",
        {"due": _WHERE_CLAIMS_LOOK},
    ),
    _runs(
        _I7,
        "the stalled run would not be tried again by anybody",
        "i.state = 'stalled' AND i.retryable_at_us IS NULL",
        {"retryable_at_us": "due"},
        "it will be tried again at its time",
        {"due": _RETRY},
    ),
    _runs(
        _I7,
        "there is a deadline, but nobody would end the run then",
        f"i.state IN {_OPEN} AND i.deadline_us IS NOT NULL AND i.overdue_at_us IS NULL",
        {"overdue_at_us": "due"},
        "the run will be ended when it is due",
        {"due": "i.deadline_us"},
    ),
    _runs(
        "I16 no timer fires early",
        "the run would be ended before its deadline",
        f"i.state IN {_OPEN} AND i.overdue_at_us < coalesce(i.deadline_us, {NEVER_US})",
        {"overdue_at_us": "due"},
        "it will be ended at its deadline, if it has one",
        {"due": "i.deadline_us"},
    ),
)

# --- activities

_HELD = "CASE WHEN i.state = 'paused' THEN 1 ELSE 0 END"
_LEASED = "coalesce(a.lease_until_us, 0)"
_CLAIMABLE = (
    "CASE WHEN i.state = 'paused' OR a.parked = 1 OR a.expired = 1 THEN NULL "
    f"ELSE greatest(a.due_at_us, {_LEASED}) END"
)
_EXPIRABLE = (
    "CASE WHEN i.state = 'paused' OR a.expires_at_us IS NULL "
    "OR NOT (a.parked = 1 OR a.expired = 1 OR (a.attempt = 1 AND a.deliveries = 0)) THEN NULL "
    f"ELSE greatest(a.expires_at_us, {_LEASED}) END"
)
_ACTIVITIES = (
    _dropped(
        ACTIVITIES, "activity {number} belongs to no run", f"NOT ({_any_run()})", {"number": "x.number"}
    ),
    Rule(
        name=_I7,
        detail="activity {number} is not where claims look for it",
        find="FROM @activities AS a JOIN @instances AS i ON i.part = a.part AND i.instance_id = a.instance_id "
        "AND i.run_id = a.run_id WHERE i.state IN ('running', 'paused') "
        f"AND (a.held <> {_HELD} OR coalesce(a.claimable_at_us, -1) <> coalesce({_CLAIMABLE}, -1) "
        f"OR coalesce(a.expirable_at_us, -1) <> coalesce({_EXPIRABLE}, -1))",
        key=_of("a"),
        columns={"number": "a.number", "held": _HELD, "claimable": _CLAIMABLE, "expirable": _EXPIRABLE},
        mend=Update(
            table=ACTIVITIES,
            values={"held": "held", "claimable_at_us": "claimable", "expirable_at_us": "expirable"},
        ),
        done="it was put there",
    ),
)

# --- inboxes

_NOT_FOR_NOW = f"NOT (i.state IN {_OPEN} AND coalesce(m.run_id, i.run_id) = i.run_id)"
_OVER = "message {number} is for a run that is over, or for nobody"
_TOP = "(SELECT m.part, m.instance_id, max(m.number) AS top FROM @inbox AS m GROUP BY m.part, m.instance_id)"
_SHOULD_COUNT = "greatest(i.seen, coalesce(t.top, 0))"

_INBOXES = (
    Rule(
        name=_I8,
        detail=_OVER,
        find="FROM @inbox AS m JOIN @instances AS i ON i.part = m.part AND i.instance_id = m.instance_id "
        f"WHERE {_NOT_FOR_NOW}",
        key=_of("m", "coalesce(m.run_id, '')"),
        columns={"number": "m.number"},
        mend=Delete(table=INBOX),
        done="the row was removed",
    ),
    _dropped(INBOX, _OVER, _FORGOTTEN, {"number": "x.number"}, run_id="coalesce(x.run_id, '')"),
    Rule(
        name=_I14,
        detail="the next message would have the number of one that there is ({sent})",
        find=f"FROM @instances AS i LEFT JOIN {_TOP} AS t ON t.part = i.part AND t.instance_id = i.instance_id "
        f"WHERE i.sent < {_SHOULD_COUNT}",
        key=_of("i"),
        columns={"sent": "i.sent", "should": _SHOULD_COUNT},
        mend=Update(table=INSTANCES, values={"sent": "should"}),
        done="the count was set right",
    ),
    Rule(
        name=_I14,
        detail="the key of message {number} is not remembered",
        find="FROM @inbox AS m WHERE m.kind NOT IN ('outcome', 'child_closed') "
        "AND substr(m.key, 1, 9) <> 'activity/' AND "
        + _found(
            "FROM @message_keys AS k WHERE k.part = m.part AND k.instance_id = m.instance_id AND k.key = m.key"
        )
        + " IS NULL",
        key=_of("m", "coalesce(m.run_id, '')"),
        columns={"number": "m.number", "name": "m.key"},
        mend=Insert(table=MESSAGE_KEYS, values={"part": "part", "instance_id": "instance_id", "key": "name"}),
        done="it is again",
    ),
    _dropped(
        MESSAGE_KEYS,
        "the remembered key {key} belongs to nobody",
        _FORGOTTEN,
        {"key": "x.key"},
        run_id=_NO_RUN,
    ),
)

# --- questions, and what has no run

_ABOUT_A_RUN = (
    "EXISTS (SELECT 1 FROM @instances AS r WHERE r.part = q.part AND r.instance_id = q.instance_id "
    "AND r.run_id = coalesce(q.run_id, r.run_id)) OR EXISTS (SELECT 1 FROM @past_runs AS r WHERE r.part = q.part "
    "AND r.instance_id = q.instance_id AND r.run_id = q.run_id)"
)


def _asked(name: str, detail: str, where: str, value: str, done: str) -> Rule:
    return Rule(
        name=name,
        detail=detail,
        find=f"FROM @questions AS q WHERE {where}",
        key=_of("q", "coalesce(q.run_id, '')"),
        columns={"id": "q.id"},
        mend=Update(table=QUESTIONS, values={"claimable_at_us": value}),
        done=done,
    )


_OTHERS = (
    _dropped(
        CLOSINGS,
        "the run goes on, but its children are to be closed",
        _any_run(f" AND r.state IN {_OPEN}"),
        {},
    ),
    _asked(
        _I8,
        "question {id} was answered, and is still asked",
        "q.reply IS NOT NULL AND q.claimable_at_us IS NOT NULL",
        "none",
        "it is asked no more",
    ),
    _asked(
        _I7,
        "question {id} waits, and nobody is asked",
        f"q.reply IS NULL AND q.claimable_at_us IS NULL AND q.expires_at_us > @now AND ({_ABOUT_A_RUN})",
        NOW,
        "it is asked again",
    ),
    _dropped(
        QUESTIONS,
        "question {id} is about nobody",
        _NO_INSTANCE,
        {"id": "x.id"},
        run_id="coalesce(x.run_id, '')",
    ),
    _dropped(UPDATE_REPLIES, "reply {id} belongs to nobody", _FORGOTTEN, {"id": "x.id"}, run_id=_NO_RUN),
    Rule(  # nothing is removed: a history without its run is all that is left of it
        name=_I8,
        detail="there is no such run, but events of it up to number {last}: bring its row back from a backup, or "
        "delete them by hand",
        find=f"FROM @history AS x WHERE NOT ({_any_run()}) GROUP BY x.part, x.instance_id, x.run_id",
        key=_of("x"),
        columns={"last": "max(x.last_number)"},
    ),
)

RULES: tuple[Rule, ...] = (*_ENDS, *_READINESS, *_ACTIVITIES, *_INBOXES, *_OTHERS)
