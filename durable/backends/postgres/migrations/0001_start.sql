-- 0001: everything a durable store keeps in PostgreSQL. Run with the search_path at the store's schema.
-- Oldest schema whose releases may go on: 1
--
-- Times are microseconds since the Unix epoch (the views show them as timestamptz). `part` is crc32(instance id) % 64 and
-- leads every key, so that the tables can be distributed by it. Each statement may run twice.
--
-- Texts by which rows are found have the collation "C": they are equal if their bytes are, and ordered by them. tags, vars
-- and headers are of type json, which keeps a text as it was written. PostgreSQL's texts cannot hold the character NUL, and
-- payloads may: in every text a NUL is kept as the two characters U+001A 0, and a U+001A as U+001A 1. Neither occurs in
-- JSON, so what people read is as it was written.
--
-- The columns that end in `able_at_us` are what claims look for, and each is NULL when there is nothing to claim:
--   claimable_at_us   the run (or activity, question, ...) may be handed to anybody from then on
--   retryable_at_us   the stalled run may be tried again
--   overdue_at_us     the run is to be ended, for its deadline has passed
--   expirable_at_us   the activity is to be handed out as expired

CREATE TABLE IF NOT EXISTS meta (
    name text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

-- One row an instance id: its current (latest) run.
CREATE TABLE IF NOT EXISTS instances (
    part integer NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    status text COLLATE "C",
    tags json NOT NULL,                -- JSON
    vars json NOT NULL,                -- JSON: name -> JSON text
    parent_id text COLLATE "C",
    parent_run_id text COLLATE "C",
    parent_number bigint,
    parent_close text COLLATE "C",
    head_number bigint NOT NULL,
    head_token text COLLATE "C" NOT NULL,
    history_bytes bigint NOT NULL,
    sent bigint NOT NULL,             -- messages ever sent to the instance
    seen bigint NOT NULL,             -- the last of them that a checkpoint looked at
    children bigint NOT NULL,         -- started by this run, and not to be abandoned
    ready_at_us bigint,
    wake_at_us bigint,
    claims bigint NOT NULL,           -- since the last accepted checkpoint
    lease_owner text COLLATE "C",
    lease_until_us bigint,
    claim_token text COLLATE "C",
    claimable_at_us bigint,
    start_at_us bigint,
    deadline_us bigint,
    overdue_at_us bigint,
    created_at_us bigint NOT NULL,
    updated_at_us bigint NOT NULL,
    closed_at_us bigint,
    result text,
    failure text,
    reason text,
    problem text,
    problem_build text COLLATE "C",
    problem_stalls bigint,
    retry_at_us bigint,
    retryable_at_us bigint,
    next_run_id text COLLATE "C",
    first_run_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (part, instance_id),
    CHECK (head_number >= 0 AND sent >= seen)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

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
    part integer NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    status text COLLATE "C",
    tags json NOT NULL,
    vars json NOT NULL,
    parent_id text COLLATE "C",
    parent_run_id text COLLATE "C",
    parent_number bigint,
    parent_close text COLLATE "C",
    head_number bigint NOT NULL,
    head_token text COLLATE "C" NOT NULL,
    history_bytes bigint NOT NULL,
    sent bigint NOT NULL,
    seen bigint NOT NULL,
    children bigint NOT NULL,
    ready_at_us bigint,
    wake_at_us bigint,
    claims bigint NOT NULL,
    lease_owner text COLLATE "C",
    lease_until_us bigint,
    claim_token text COLLATE "C",
    claimable_at_us bigint,
    start_at_us bigint,
    deadline_us bigint,
    overdue_at_us bigint,
    created_at_us bigint NOT NULL,
    updated_at_us bigint NOT NULL,
    closed_at_us bigint,
    result text,
    failure text,
    reason text,
    problem text,
    problem_build text COLLATE "C",
    problem_stalls bigint,
    retry_at_us bigint,
    retryable_at_us bigint,
    next_run_id text COLLATE "C",
    first_run_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (part, instance_id, run_id)
);

CREATE INDEX IF NOT EXISTS past_runs_children ON past_runs (parent_id, parent_run_id) WHERE parent_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS past_runs_created ON past_runs (created_at_us, run_id);
CREATE INDEX IF NOT EXISTS past_runs_closed ON past_runs (closed_at_us) WHERE closed_at_us IS NOT NULL;

-- One row a checkpoint: its events, one a line. `lengths` is NULL, or a JSON list of their lengths in bytes when one of
-- them has a line break inside (or there is no event at all).
CREATE TABLE IF NOT EXISTS history (
    part integer NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    first_number bigint NOT NULL,
    last_number bigint NOT NULL,
    events bytea NOT NULL,
    lengths text,
    PRIMARY KEY (part, instance_id, run_id, first_number)
);

CREATE TABLE IF NOT EXISTS inbox (
    part integer NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    run_id text COLLATE "C",                       -- for this run only
    key text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    body text NOT NULL,
    sent_at_us bigint NOT NULL,
    PRIMARY KEY (part, instance_id, number)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- The keys of messages, remembered after the messages were consumed.
CREATE TABLE IF NOT EXISTS message_keys (
    part integer NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (part, instance_id, key)
);

CREATE TABLE IF NOT EXISTS activities (
    part integer NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    payload text NOT NULL,
    options text NOT NULL,
    scheduled_at_us bigint NOT NULL,
    due_at_us bigint NOT NULL,
    attempt bigint NOT NULL,
    deliveries bigint NOT NULL,
    token text COLLATE "C",                        -- of whoever may finish the attempt
    lease_until_us bigint,
    details text,
    failure text,
    expires_at_us bigint,
    parked bigint NOT NULL,           -- it will be finished from elsewhere
    expired bigint NOT NULL,          -- it was handed out as expired
    held bigint NOT NULL,             -- its run is paused
    claimable_at_us bigint,
    expirable_at_us bigint,
    PRIMARY KEY (part, instance_id, run_id, number)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX IF NOT EXISTS activities_claimable ON activities (queue, name, claimable_at_us, instance_id, run_id, number)
    WHERE claimable_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS activities_expirable ON activities (expirable_at_us) WHERE expirable_at_us IS NOT NULL;

-- Ended runs with children that are to be closed too.
CREATE TABLE IF NOT EXISTS closings (
    part integer NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    claimable_at_us bigint NOT NULL,
    PRIMARY KEY (part, instance_id, run_id)
);

CREATE INDEX IF NOT EXISTS closings_claimable ON closings (claimable_at_us);

CREATE TABLE IF NOT EXISTS questions (
    part integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    run_id text COLLATE "C",
    name text COLLATE "C" NOT NULL,
    body text NOT NULL,
    asked_at_us bigint NOT NULL,
    expires_at_us bigint NOT NULL,
    claimable_at_us bigint,           -- NULL: answered
    reply text,
    kept_until_us bigint NOT NULL,
    PRIMARY KEY (part, instance_id, id)
);

CREATE INDEX IF NOT EXISTS questions_claimable ON questions (claimable_at_us)
    WHERE claimable_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS questions_kept ON questions (kept_until_us);

CREATE TABLE IF NOT EXISTS update_replies (
    part integer NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (part, instance_id, id)
);

-- Events that are to be published; the row goes when that is done.
CREATE TABLE IF NOT EXISTS outbox (
    part integer NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,         -- per run
    instance_id text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    payload text NOT NULL,
    key text COLLATE "C",
    headers json NOT NULL,             -- JSON
    created_at_us bigint NOT NULL,
    lease_until_us bigint NOT NULL,   -- or since when it is free
    PRIMARY KEY (part, instance_id, run_id, sequence)
);

CREATE INDEX IF NOT EXISTS outbox_order ON outbox (created_at_us, run_id, sequence);
CREATE INDEX IF NOT EXISTS outbox_id ON outbox (id);

CREATE TABLE IF NOT EXISTS roles (
    role text COLLATE "C" PRIMARY KEY,
    worker_id text COLLATE "C" NOT NULL,
    lease_until_us bigint NOT NULL
);

CREATE OR REPLACE VIEW runs AS
    SELECT * FROM instances UNION ALL SELECT * FROM past_runs;

-- For people: one row a run.
CREATE OR REPLACE VIEW workflow_records AS
    SELECT workflow AS workflow_name,
           instance_id AS foreign_id,
           run_id,
           state AS run_state,
           status,
           vars AS object,
           timestamptz 'epoch' + created_at_us * interval '1 microsecond' AS created_at,
           timestamptz 'epoch' + updated_at_us * interval '1 microsecond' AS updated_at
    FROM runs;

CREATE OR REPLACE VIEW workflow_outbox AS
    SELECT id,
           workflow AS workflow_name,
           instance_id AS foreign_id,
           run_id,
           topic,
           key,
           payload,
           headers,
           timestamptz 'epoch' + created_at_us * interval '1 microsecond' AS created_at
    FROM outbox;

-- Claims of the outbox go through this row, one at a time.
INSERT INTO meta (name, value) VALUES ('outbox', '') ON CONFLICT DO NOTHING;
