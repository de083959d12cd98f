-- 0001: everything a durable store keeps in SQLite.
-- Oldest schema whose releases may go on: 1
--
-- Times are microseconds since the Unix epoch. `part` is crc32(instance id) % 64 and leads every key, so that the same
-- schema can be cut by it elsewhere. Each statement may run twice.
--
-- The columns that end in `able_at_us` are what claims look for, and each is NULL when there is nothing to claim:
--   claimable_at_us   the run (or activity, question, ...) may be handed to anybody from then on
--   retryable_at_us   the stalled run may be tried again
--   overdue_at_us     the run is to be ended, for its deadline has passed
--   expirable_at_us   the activity is to be handed out as expired

CREATE TABLE IF NOT EXISTS meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row an instance id: its current (latest) run.
CREATE TABLE IF NOT EXISTS instances (
    part INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    status TEXT,
    tags TEXT NOT NULL,                -- JSON
    vars TEXT NOT NULL,                -- JSON: name -> JSON text
    parent_id TEXT,
    parent_run_id TEXT,
    parent_number INTEGER,
    parent_close TEXT,
    head_number INTEGER NOT NULL,
    head_token TEXT NOT NULL,
    history_bytes INTEGER NOT NULL,
    sent INTEGER NOT NULL,             -- messages ever sent to the instance
    seen INTEGER NOT NULL,             -- the last of them that a checkpoint looked at
    children INTEGER NOT NULL,         -- started by this run, and not to be abandoned
    ready_at_us INTEGER,
    wake_at_us INTEGER,
    claims INTEGER NOT NULL,           -- since the last accepted checkpoint
    lease_owner TEXT,
    lease_until_us INTEGER,
    claim_token TEXT,
    claimable_at_us INTEGER,
    start_at_us INTEGER,
    deadline_us INTEGER,
    overdue_at_us INTEGER,
    created_at_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL,
    closed_at_us INTEGER,
    result TEXT,
    failure TEXT,
    reason TEXT,
    problem TEXT,
    problem_build TEXT,
    problem_stalls INTEGER,
    retry_at_us INTEGER,
    retryable_at_us INTEGER,
    next_run_id TEXT,
    first_run_id TEXT NOT NULL,
    PRIMARY KEY (part, instance_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS instances_claimable ON instances (queue, workflow, version, claimable_at_us, instance_id)
    WHERE claimable_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS instances_leased ON instances (lease_owner, ready_at_us, instance_id)
    WHERE lease_owner IS NOT NULL AND ready_at_us IS NOT NULL AND state = 'running';
CREATE INDEX IF NOT EXISTS instances_overdue ON instances (overdue_at_us) WHERE overdue_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS instances_retryable ON instances (queue, workflow, version, retryable_at_us, instance_id)
    WHERE retryable_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS instances_children ON instances (parent_id, parent_run_id) WHERE parent_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS instances_created ON instances (created_at_us, run_id);
CREATE INDEX IF NOT EXISTS instances_closed ON instances (closed_at_us) WHERE closed_at_us IS NOT NULL;

-- Earlier runs of the ids: moved here when an id is used anew or continued, and not changed any more.
CREATE TABLE IF NOT EXISTS past_runs (
    part INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    status TEXT,
    tags TEXT NOT NULL,
    vars TEXT NOT NULL,
    parent_id TEXT,
    parent_run_id TEXT,
    parent_number INTEGER,
    parent_close TEXT,
    head_number INTEGER NOT NULL,
    head_token TEXT NOT NULL,
    history_bytes INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    children INTEGER NOT NULL,
    ready_at_us INTEGER,
    wake_at_us INTEGER,
    claims INTEGER NOT NULL,
    lease_owner TEXT,
    lease_until_us INTEGER,
    claim_token TEXT,
    claimable_at_us INTEGER,
    start_at_us INTEGER,
    deadline_us INTEGER,
    overdue_at_us INTEGER,
    created_at_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL,
    closed_at_us INTEGER,
    result TEXT,
    failure TEXT,
    reason TEXT,
    problem TEXT,
    problem_build TEXT,
    problem_stalls INTEGER,
    retry_at_us INTEGER,
    retryable_at_us INTEGER,
    next_run_id TEXT,
    first_run_id TEXT NOT NULL,
    PRIMARY KEY (part, instance_id, run_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS past_runs_children ON past_runs (parent_id, parent_run_id) WHERE parent_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS past_runs_created ON past_runs (created_at_us, run_id);
CREATE INDEX IF NOT EXISTS past_runs_closed ON past_runs (closed_at_us) WHERE closed_at_us IS NOT NULL;

-- One row a checkpoint: its events, one a line. `lengths` is NULL, or a JSON list of their lengths in bytes when one of
-- them has a line break inside (or there is no event at all).
CREATE TABLE IF NOT EXISTS history (
    part INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    first_number INTEGER NOT NULL,
    last_number INTEGER NOT NULL,
    events BLOB NOT NULL,
    lengths TEXT,
    PRIMARY KEY (part, instance_id, run_id, first_number)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS inbox (
    part INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    run_id TEXT,                       -- for this run only
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    sent_at_us INTEGER NOT NULL,
    PRIMARY KEY (part, instance_id, number)
) STRICT, WITHOUT ROWID;

-- The keys of messages, remembered after the messages were consumed.
CREATE TABLE IF NOT EXISTS message_keys (
    part INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (part, instance_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS activities (
    part INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    workflow TEXT NOT NULL,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    payload TEXT NOT NULL,
    options TEXT NOT NULL,
    scheduled_at_us INTEGER NOT NULL,
    due_at_us INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    token TEXT,                        -- of whoever may finish the attempt
    lease_until_us INTEGER,
    details TEXT,
    failure TEXT,
    expires_at_us INTEGER,
    parked INTEGER NOT NULL,           -- it will be finished from elsewhere
    expired INTEGER NOT NULL,          -- it was handed out as expired
    held INTEGER NOT NULL,             -- its run is paused
    claimable_at_us INTEGER,
    expirable_at_us INTEGER,
    PRIMARY KEY (part, instance_id, run_id, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS activities_claimable ON activities (queue, name, claimable_at_us, instance_id, run_id, number)
    WHERE claimable_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS activities_expirable ON activities (expirable_at_us) WHERE expirable_at_us IS NOT NULL;

-- Ended runs with children that are to be closed too.
CREATE TABLE IF NOT EXISTS closings (
    part INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    claimable_at_us INTEGER NOT NULL,
    PRIMARY KEY (part, instance_id, run_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS closings_claimable ON closings (claimable_at_us);

CREATE TABLE IF NOT EXISTS questions (
    part INTEGER NOT NULL,
    id TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    run_id TEXT,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    asked_at_us INTEGER NOT NULL,
    expires_at_us INTEGER NOT NULL,
    claimable_at_us INTEGER,           -- NULL: answered
    reply TEXT,
    kept_until_us INTEGER NOT NULL,
    PRIMARY KEY (part, instance_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS questions_claimable ON questions (claimable_at_us)
    WHERE claimable_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS questions_kept ON questions (kept_until_us);

CREATE TABLE IF NOT EXISTS update_replies (
    part INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (part, instance_id, id)
) STRICT, WITHOUT ROWID;

-- Events that are to be published; the row goes when that is done.
CREATE TABLE IF NOT EXISTS outbox (
    part INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,         -- per run
    instance_id TEXT NOT NULL,
    workflow TEXT NOT NULL,
    id TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload TEXT NOT NULL,
    key TEXT,
    headers TEXT NOT NULL,             -- JSON
    created_at_us INTEGER NOT NULL,
    lease_until_us INTEGER NOT NULL,   -- or since when it is free
    PRIMARY KEY (part, instance_id, run_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS outbox_order ON outbox (created_at_us, run_id, sequence);
CREATE INDEX IF NOT EXISTS outbox_id ON outbox (id);

CREATE TABLE IF NOT EXISTS roles (
    role TEXT PRIMARY KEY,
    worker_id TEXT NOT NULL,
    lease_until_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIEW IF NOT EXISTS runs AS
    SELECT * FROM instances UNION ALL SELECT * FROM past_runs;

-- For people: one row a run, times as text (UTC).
CREATE VIEW IF NOT EXISTS workflow_records AS
    SELECT workflow AS workflow_name,
           instance_id AS foreign_id,
           run_id,
           state AS run_state,
           status,
           vars AS object,
           strftime('%Y-%m-%dT%H:%M:%fZ', created_at_us / 1000000.0, 'unixepoch') AS created_at,
           strftime('%Y-%m-%dT%H:%M:%fZ', updated_at_us / 1000000.0, 'unixepoch') AS updated_at
    FROM runs;

CREATE VIEW IF NOT EXISTS workflow_outbox AS
    SELECT id,
           workflow AS workflow_name,
           instance_id AS foreign_id,
           run_id,
           topic,
           key,
           payload,
           headers,
           strftime('%Y-%m-%dT%H:%M:%fZ', created_at_us / 1000000.0, 'unixepoch') AS created_at
    FROM outbox;
