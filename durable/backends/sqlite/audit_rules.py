"""The rules of the audit: for each a query that finds what breaks it, and statements that mend what can be mended.

Rules are judged in their order, each after the one before was mended: so what one wound breaks twice is told once.
No rule takes events apart. What waits for an activity whose row is gone looks like what waits for a signal, and so
does a run that nobody has begun and that is not ready: to begin may leave no event behind.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What must never be.

    ``find`` gives instance id, run id, what is wrong. ``mend`` is executed as it stands, for all rows that are found;
    ``done`` tells what it did. ``heals=False``: that is not a repair, it only keeps the damage from spreading.
    Both may name ``:now_us``.
    """

    name: str
    find: str
    mend: tuple[str, ...] = ()
    done: str = ""
    heals: bool = True


def _update(table: str, fields: str, where: str) -> str:
    return f"UPDATE {table} SET {fields} WHERE {where}"


def _run_rule(name: str, detail: str, where: str, fields: str = "", done: str = "") -> Rule:
    """On the current runs; ``detail`` is an SQL expression."""
    find = f"SELECT instance_id, run_id, {detail} FROM instances WHERE {where}"
    mend = (_update("instances", fields, where),) if fields else ()
    return Rule(name=name, find=find, mend=mend, done=done)


def _drop_rule(
    table: str, run_id: str, detail: str, where: str, name: str = "I8 nothing outlives its cause"
) -> Rule:
    """On rows that have nothing to be there for."""
    find = f"SELECT instance_id, {run_id}, {detail} FROM {table} WHERE {where}"
    return Rule(
        name=name, find=find, mend=(f"DELETE FROM {table} WHERE {where}",), done="the row was removed"
    )


_OPEN = "('running', 'paused', 'stalled')"
_NEVER = 2**63 - 1
_I7 = "I7 nothing waits on nothing"
_I8 = "I8 nothing outlives its cause"


def _no_run(table: str, more: str = "") -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM runs WHERE runs.part = {table}.part "
        f"AND runs.instance_id = {table}.instance_id AND runs.run_id = {table}.run_id{more})"
    )


def _no_instance(table: str, more: str = "") -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM instances WHERE instances.part = {table}.part "
        f"AND instances.instance_id = {table}.instance_id{more})"
    )


def _forgotten(table: str) -> str:
    """The instance is not there, nor a history of it: where there is one, somebody removed its row by hand, and what
    is left may serve to bring it back.
    """
    return (
        f"{_no_instance(table)} AND NOT EXISTS (SELECT 1 FROM history WHERE history.part = {table}.part AND "
        + (f"history.instance_id = {table}.instance_id)")
    )


# --- histories and ends

_HISTORY = (
    "(SELECT part, instance_id, run_id, min(first_number) AS lowest, max(last_number) AS highest, "
    "sum(last_number - first_number + 1) AS total FROM history GROUP BY part, instance_id, run_id)"
)
_GAP = f"runs LEFT JOIN {_HISTORY} USING (part, instance_id, run_id) WHERE " + (
    "(lowest IS NOT 1 OR highest <> head_number OR total <> head_number)"
)
_TORN = "json_object('kind', 'unreadable', 'message', 'the history does not fit its head; see the audit of the store')"
_PARK = (
    f"UPDATE instances SET state = 'stalled', problem = {_TORN}, problem_build = '', problem_stalls = 1, "
    "lease_owner = NULL, lease_until_us = NULL, claim_token = NULL, claimable_at_us = NULL, "
    f"retry_at_us = {_NEVER}, retryable_at_us = {_NEVER} "
    f"WHERE state = 'running' AND (instance_id, run_id) IN (SELECT instance_id, run_id FROM {_GAP})"
)
_LEFT = (
    f"state NOT IN {_OPEN} AND (lease_owner IS NOT NULL OR wake_at_us IS NOT NULL OR ready_at_us IS NOT NULL "
    "OR claimable_at_us IS NOT NULL OR retryable_at_us IS NOT NULL OR overdue_at_us IS NOT NULL)"
)
_ENDED = f" AND runs.state NOT IN {_OPEN}"
_OPEN_PAST_RUN = f"state IN {_OPEN}"
_CONTINUED = f"{_OPEN_PAST_RUN} AND closed_at_us IS NOT NULL AND next_run_id IS NOT NULL"

_ENDS = (
    Rule(
        name="I2 gap-free",
        find="SELECT instance_id, run_id, 'the head has number ' || head_number || ', the history ' "
        "|| coalesce(total, 0) || ' events (' || coalesce(lowest, 0) || ' to ' || coalesce(highest, 0) || ')' "
        f"FROM {_GAP}",
        mend=(_PARK,),
        done="no event can be made up, so the run is parked (stalled) if it was running",
        heals=False,
    ),
    Rule(
        name="I3 one end",
        find="SELECT instance_id, run_id, 'the run is ' || state || ', but closed at ' "
        f"|| coalesce(closed_at_us, 'never') FROM instances WHERE (state IN {_OPEN}) = (closed_at_us IS NOT NULL) "
        "UNION ALL SELECT instance_id, run_id, 'the run is ' || state || ', but closed at never' "
        f"FROM past_runs WHERE state NOT IN {_OPEN} AND closed_at_us IS NULL",
    ),
    _run_rule(
        "I4 an end is an end",
        "'a lease or a time is left of a finished run'",
        _LEFT,
        "lease_owner = NULL, lease_until_us = NULL, claim_token = NULL, wake_at_us = NULL, ready_at_us = NULL, "
        "claimable_at_us = NULL, retryable_at_us = NULL, overdue_at_us = NULL",
        "they were cleared",
    ),
    _drop_rule(
        "activities",
        "run_id",
        "'the run has finished, and its activity ' || number || ' is still there'",
        f"NOT {_no_run('activities', _ENDED)}",
        "I4 an end is an end",
    ),
    Rule(
        name="I5 one unfinished run",
        find="SELECT instance_id, run_id, 'an earlier run that was continued is ' || state "
        f"FROM past_runs WHERE {_CONTINUED}",
        mend=(_update("past_runs", "state = 'continued_as_new'", _CONTINUED),),
        done="its state is continued_as_new again",
    ),
    Rule(
        name="I5 one unfinished run",
        find="SELECT instance_id, run_id, 'an earlier run is ' || state || ', and nothing says how it ended' "
        f"FROM past_runs WHERE {_OPEN_PAST_RUN} AND NOT ({_CONTINUED})",
    ),
)

# --- readiness of runs

_UNREAD = (
    "EXISTS (SELECT 1 FROM inbox WHERE inbox.part = instances.part "
    "AND inbox.instance_id = instances.instance_id AND inbox.number > instances.seen)"
)
_ENDLESS = f"state IN {_OPEN} AND lease_owner IS NOT NULL AND lease_until_us IS NULL"
_ASLEEP = "state = 'running' AND lease_owner IS NULL AND ready_at_us IS NULL"
_LOST_MESSAGE = f"{_ASLEEP} AND {_UNREAD}"
_LOST_TIMER = f"{_ASLEEP} AND wake_at_us IS NOT NULL AND NOT {_UNREAD}"
_LOST_CLAIM = f"{_ASLEEP} AND wake_at_us IS NULL AND claims > 0 AND NOT {_UNREAD}"
_NOW = "ready_at_us = :now_us, claimable_at_us = :now_us"
_WHERE_CLAIMS_LOOK = "CASE WHEN lease_owner IS NOT NULL THEN lease_until_us ELSE ready_at_us END"
_MISPLACED = (
    f"state = 'running' AND claimable_at_us IS NOT {_WHERE_CLAIMS_LOOK} "
    "AND (lease_owner IS NULL OR lease_until_us IS NOT NULL) "
    f"AND NOT ({_LOST_MESSAGE}) AND NOT ({_LOST_TIMER}) AND NOT ({_LOST_CLAIM})"
)
_RETRY = "max(coalesce(retry_at_us, 0), CASE WHEN lease_owner IS NOT NULL THEN coalesce(lease_until_us, 0) ELSE 0 END)"
_UNTRIED = "state = 'stalled' AND retryable_at_us IS NULL"
_ENDED_LATE = f"state IN {_OPEN} AND deadline_us IS NOT NULL AND overdue_at_us IS NULL"
_ENDED_EARLY = f"state IN {_OPEN} AND overdue_at_us < coalesce(deadline_us, {_NEVER})"

_READINESS = (
    _run_rule(
        _I7,
        "'the lease of ' || lease_owner || ' has no end'",
        _ENDLESS,
        "lease_owner = NULL, claim_token = NULL, ready_at_us = :now_us, "
        "claimable_at_us = CASE WHEN state = 'running' THEN :now_us END, "
        "retryable_at_us = CASE WHEN state = 'stalled' THEN coalesce(retry_at_us, 0) END",
        "the lease was taken away",
    ),
    _run_rule(
        _I7,
        "'a message has not been seen, but the run is neither ready nor leased'",
        _LOST_MESSAGE,
        _NOW,
        "the run was made ready",
    ),
    _run_rule(
        _I7,
        "'a timer is set, but the run will not be ready when it is due'",
        _LOST_TIMER,
        "ready_at_us = wake_at_us, claimable_at_us = wake_at_us",
        "the run will be ready when the timer is due",
    ),
    _run_rule(
        _I7,
        "'the run was claimed, nothing came of it, and nobody has it'",
        _LOST_CLAIM,
        _NOW,
        "the run was made ready",
    ),
    _run_rule(
        _I7,
        "'the run is not where claims look for it'",
        _MISPLACED,
        f"claimable_at_us = {_WHERE_CLAIMS_LOOK}",
        "it was put there",
    ),
    _run_rule(
        _I7,
        "'the stalled run would not be tried again by anybody'",
        _UNTRIED,
        f"retryable_at_us = {_RETRY}",
        "it will be tried again at its time",
    ),
    _run_rule(
        _I7,
        "'there is a deadline, but nobody would end the run then'",
        _ENDED_LATE,
        "overdue_at_us = deadline_us",
        "the run will be ended when it is due",
    ),
    _run_rule(
        "I16 no timer fires early",
        "'the run would be ended before its deadline'",
        _ENDED_EARLY,
        "overdue_at_us = deadline_us",
        "it will be ended at its deadline, if it has one",
    ),
)

# --- activities

_NO_RUN_OF_TASK = _no_run("activities")
_HELD = (
    "coalesce((SELECT state = 'paused' FROM instances WHERE instances.part = activities.part "
    "AND instances.instance_id = activities.instance_id AND instances.run_id = activities.run_id), held)"
)
_LEASED = "coalesce(lease_until_us, 0)"
_CLAIMABLE = f"CASE WHEN {_HELD} OR parked OR expired THEN NULL ELSE max(due_at_us, {_LEASED}) END"
_EXPIRABLE = (
    f"CASE WHEN {_HELD} OR NOT (parked OR expired OR (attempt = 1 AND deliveries = 0)) THEN NULL "
    f"ELSE max(expires_at_us, {_LEASED}) END"
)
_ASTRAY = (
    f"(held <> {_HELD} OR claimable_at_us IS NOT {_CLAIMABLE} OR expirable_at_us IS NOT {_EXPIRABLE}) "
    "AND EXISTS (SELECT 1 FROM instances WHERE instances.part = activities.part "
    "AND instances.instance_id = activities.instance_id AND instances.run_id = activities.run_id "
    "AND instances.state IN ('running', 'paused'))"
)

_ACTIVITIES = (
    _drop_rule("activities", "run_id", "'activity ' || number || ' belongs to no run'", _NO_RUN_OF_TASK),
    Rule(
        name=_I7,
        find=f"SELECT instance_id, run_id, 'activity ' || number || ' is not where claims look for it' "
        f"FROM activities WHERE {_ASTRAY}",
        mend=(
            _update(
                "activities",
                f"held = {_HELD}, claimable_at_us = {_CLAIMABLE}, expirable_at_us = {_EXPIRABLE}",
                _ASTRAY,
            ),
        ),
        done="it was put there",
    ),
)

# --- inboxes

_COUNTED = (
    "(SELECT max(number) FROM inbox WHERE inbox.part = instances.part "
    "AND inbox.instance_id = instances.instance_id)"
)
_MISCOUNTED = f"sent < max(seen, coalesce({_COUNTED}, 0))"
_OVER = (
    "EXISTS (SELECT 1 FROM instances WHERE instances.part = inbox.part AND instances.instance_id = inbox.instance_id "
    f"AND NOT (state IN {_OPEN} AND coalesce(inbox.run_id, instances.run_id) = instances.run_id))"
)
_FORGOTTEN_KEY = (
    "inbox WHERE kind NOT IN ('outcome', 'child_closed') AND key NOT LIKE 'activity/%' AND NOT EXISTS ("
    "SELECT 1 FROM message_keys WHERE message_keys.part = inbox.part "
    "AND message_keys.instance_id = inbox.instance_id AND message_keys.key = inbox.key)"
)

_INBOXES = (
    _drop_rule(
        "inbox",
        "run_id",
        "'message ' || number || ' is for a run that is over, or for nobody'",
        f"({_OVER} OR {_forgotten('inbox')})",
    ),
    _run_rule(
        "I14 each message once",
        "'the next message would have the number of one that there is (' || sent || ')'",
        _MISCOUNTED,
        f"sent = max(seen, coalesce({_COUNTED}, 0))",
        "the count was set right",
    ),
    Rule(
        name="I14 each message once",
        find="SELECT instance_id, run_id, 'the key of message ' || number || ' is not remembered' "
        f"FROM {_FORGOTTEN_KEY}",
        mend=(
            "INSERT OR IGNORE INTO message_keys (part, instance_id, key) "
            f"SELECT part, instance_id, key FROM {_FORGOTTEN_KEY}",
        ),
        done="it is again",
    ),
    _drop_rule(
        "message_keys",
        "NULL",
        "'the remembered key ' || key || ' belongs to nobody'",
        _forgotten("message_keys"),
    ),
)

# --- families, questions, and what has no run

_TO_CLOSE = (
    "child.closed_at_us IS NULL AND child.parent_close <> 'abandon' AND NOT (child.parent_close = 'cancel' "
    "AND EXISTS (SELECT 1 FROM message_keys WHERE message_keys.part = child.part "
    "AND message_keys.instance_id = child.instance_id AND message_keys.key = 'close/' || child.parent_run_id))"
)
_UNCLOSED = (
    "FROM runs JOIN instances AS child ON child.parent_id = runs.instance_id AND child.parent_run_id = runs.run_id "
    f"WHERE runs.state NOT IN {_OPEN} AND {_TO_CLOSE} AND NOT EXISTS (SELECT 1 FROM closings "
    "WHERE closings.part = runs.part AND closings.instance_id = runs.instance_id AND closings.run_id = runs.run_id)"
)
_COUNT_CHILDREN = (
    "(SELECT count(*) FROM instances AS child WHERE child.parent_id = instances.instance_id "
    f"AND child.parent_run_id = instances.run_id AND {_TO_CLOSE})"
)
_CHILDLESS = f"state IN {_OPEN} AND children = 0 AND {_COUNT_CHILDREN} > 0"
_ASKED_AGAIN = "reply IS NOT NULL AND claimable_at_us IS NOT NULL"
_UNASKED = (
    "reply IS NULL AND claimable_at_us IS NULL AND expires_at_us > :now_us AND EXISTS (SELECT 1 FROM runs "
    "WHERE runs.part = questions.part AND runs.instance_id = questions.instance_id "
    "AND runs.run_id = coalesce(questions.run_id, runs.run_id))"
)

_OTHERS = (
    Rule(
        name=_I7,
        find="SELECT DISTINCT runs.instance_id, runs.run_id, "
        f"'the run has ended, and nobody would close its children' {_UNCLOSED}",
        mend=(
            "INSERT OR IGNORE INTO closings (part, instance_id, run_id, claimable_at_us) "
            f"SELECT DISTINCT runs.part, runs.instance_id, runs.run_id, :now_us {_UNCLOSED}",
        ),
        done="they will be closed",
    ),
    _run_rule(
        _I7,
        "'the run does not know of its children, which would outlive it'",
        _CHILDLESS,
        f"children = {_COUNT_CHILDREN}",
        "they were counted",
    ),
    _drop_rule(
        "closings",
        "run_id",
        "'the run goes on, but its children are to be closed'",
        f"NOT {_no_run('closings', f' AND runs.state IN {_OPEN}')}",
    ),
    Rule(
        name=_I8,
        find=f"SELECT instance_id, run_id, 'question ' || id || ' was answered, and is still asked' "
        f"FROM questions WHERE {_ASKED_AGAIN}",
        mend=(_update("questions", "claimable_at_us = NULL", _ASKED_AGAIN),),
        done="it is asked no more",
    ),
    Rule(
        name=_I7,
        find=f"SELECT instance_id, run_id, 'question ' || id || ' waits, and nobody is asked' "
        f"FROM questions WHERE {_UNASKED}",
        mend=(_update("questions", "claimable_at_us = :now_us", _UNASKED),),
        done="it is asked again",
    ),
    _drop_rule("questions", "run_id", "'question ' || id || ' is about nobody'", _no_instance("questions")),
    _drop_rule(
        "update_replies", "NULL", "'reply ' || id || ' belongs to nobody'", _forgotten("update_replies")
    ),
    Rule(  # nothing is removed: a history without its run is all that is left of it
        name=_I8,
        find="SELECT instance_id, run_id, 'there is no such run, but ' || sum(last_number - first_number + 1) "
        "|| ' events of it: bring its row back from a backup, or delete them by hand' "
        f"FROM history WHERE {_no_run('history')} GROUP BY part, instance_id, run_id",
    ),
    Rule(
        name="I29 every row can be read",
        find="SELECT instance_id, run_id, 'tags or vars are no JSON' FROM runs "
        "WHERE NOT json_valid(tags) OR NOT json_valid(vars)",
    ),
)

RULES = (*_ENDS, *_READINESS, *_ACTIVITIES, *_INBOXES, *_OTHERS)
