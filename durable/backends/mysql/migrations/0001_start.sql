-- 0001: everything a durable store keeps in MySQL 8 or MariaDB.
-- Oldest schema whose releases may go on: 1
--
-- Times are microseconds since the Unix epoch; the views at the end show them as DATETIME(6) in UTC. `part` is
-- crc32(instance id) % 64 and leads every key, so that the same schema can be cut by it elsewhere.
--
-- There is no transaction around DDL here, so each statement may run twice, and after a half of them.
--
-- Names are VARBINARY, which is compared byte by byte; no collation of the server has that to the end (even
-- utf8mb4_bin takes 'a' and 'a ' for the same). They hold UTF-8: CONVERT(... USING utf8mb4) shows them, as the views do.
-- Texts are LONGTEXT, which keeps all that has UTF-8, NUL too. What is JSON says so in a CHECK. (MySQL's own type JSON
-- would reorder what it is given, and MariaDB's is this.)
--
-- The columns that end in `able_at_us` are what claims look for, and each is NULL when there is nothing to claim: a
-- NULL is in no range of an index. (There are no partial indexes here.)
--   claimable_at_us   the run (or activity, question, ...) may be handed to anybody from then on
--   retryable_at_us   the stalled run may be tried again
--   overdue_at_us     the run is to be ended, for its deadline has passed
--   expirable_at_us   the activity is to be handed out as expired

CREATE TABLE IF NOT EXISTS meta (
    name VARBINARY(512) NOT NULL,
    value LONGTEXT NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

-- Claims of events go through this row, one at a time.
INSERT IGNORE INTO meta (name, value) VALUES ('outbox', '');

-- One row an instance id: its current (latest) run.
CREATE TABLE IF NOT EXISTS instances (
    part TINYINT UNSIGNED NOT NULL,
    instance_id VARBINARY(512) NOT NULL,
    run_id VARBINARY(512) NOT NULL,
    workflow VARBINARY(512) NOT NULL,
    version VARBINARY(512) NOT NULL,
    queue VARBINARY(512) NOT NULL,
    state VARBINARY(20) NOT NULL,
    status VARBINARY(4096),
    tags LONGTEXT NOT NULL CHECK (JSON_VALID(tags)),
    vars LONGTEXT NOT NULL CHECK (JSON_VALID(vars)),
    parent_id VARBINARY(512),
    parent_run_id VARBINARY(512),
    parent_number BIGINT,
    parent_close VARBINARY(20),
    head_number BIGINT NOT NULL,
    head_token VARBINARY(512) NOT NULL,
    history_bytes BIGINT NOT NULL,
    sent BIGINT NOT NULL,                     -- messages ever sent to the instance
    seen BIGINT NOT NULL,                     -- the last of them that a checkpoint looked at
    children BIGINT NOT NULL,                 -- started by this run, and not to be abandoned
    ready_at_us BIGINT,
    wake_at_us BIGINT,
    claims BIGINT NOT NULL,                   -- since the last accepted checkpoint
    lease_owner VARBINARY(512),
    lease_until_us BIGINT,
    claim_token VARBINARY(512),
    claimable_at_us BIGINT,
    start_at_us BIGINT,
    deadline_us BIGINT,
    overdue_at_us BIGINT,
    created_at_us BIGINT NOT NULL,
    updated_at_us BIGINT NOT NULL,
    closed_at_us BIGINT,
    result LONGTEXT,
    failure LONGTEXT,
    reason LONGTEXT,
    problem LONGTEXT,
    problem_build VARBINARY(4096),
    problem_stalls BIGINT,
    retry_at_us BIGINT,
    retryable_at_us BIGINT,
    next_run_id VARBINARY(512),
    first_run_id VARBINARY(512) NOT NULL,
    PRIMARY KEY (part, instance_id),
    KEY instances_claimable (queue, workflow, version, claimable_at_us, instance_id),
    KEY instances_leased (lease_owner, ready_at_us, instance_id),
    KEY instances_overdue (overdue_at_us),
    KEY instances_retryable (queue, workflow, version, retryable_at_us, instance_id),
    KEY instances_children (parent_id, parent_run_id, created_at_us, run_id),
    KEY instances_created (created_at_us, run_id),
    KEY instances_closed (closed_at_us, run_id)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

-- Earlier runs of the ids: moved here when an id is used anew or continued, and not changed any more.
CREATE TABLE IF NOT EXISTS past_runs (
    part TINYINT UNSIGNED NOT NULL,
    instance_id VARBINARY(512) NOT NULL,
    run_id VARBINARY(512) NOT NULL,
    workflow VARBINARY(512) NOT NULL,
    version VARBINARY(512) NOT NULL,
    queue VARBINARY(512) NOT NULL,
    state VARBINARY(20) NOT NULL,
    status VARBINARY(4096),
    tags LONGTEXT NOT NULL CHECK (JSON_VALID(tags)),
    vars LONGTEXT NOT NULL CHECK (JSON_VALID(vars)),
    parent_id VARBINARY(512),
    parent_run_id VARBINARY(512),
    parent_number BIGINT,
    parent_close VARBINARY(20),
    head_number BIGINT NOT NULL,
    head_token VARBINARY(512) NOT NULL,
    history_bytes BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    children BIGINT NOT NULL,
    ready_at_us BIGINT,
    wake_at_us BIGINT,
    claims BIGINT NOT NULL,
    lease_owner VARBINARY(512),
    lease_until_us BIGINT,
    claim_token VARBINARY(512),
    claimable_at_us BIGINT,
    start_at_us BIGINT,
    deadline_us BIGINT,
    overdue_at_us BIGINT,
    created_at_us BIGINT NOT NULL,
    updated_at_us BIGINT NOT NULL,
    closed_at_us BIGINT,
    result LONGTEXT,
    failure LONGTEXT,
    reason LONGTEXT,
    problem LONGTEXT,
    problem_build VARBINARY(4096),
    problem_stalls BIGINT,
    retry_at_us BIGINT,
    retryable_at_us BIGINT,
    next_run_id VARBINARY(512),
    first_run_id VARBINARY(512) NOT NULL,
    PRIMARY KEY (part, instance_id, run_id),
    KEY past_runs_children (parent_id, parent_run_id, created_at_us, run_id),
    KEY past_runs_created (created_at_us, run_id),
    KEY past_runs_closed (closed_at_us, run_id)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

-- One row a checkpoint: its events, one a line. `lengths` is NULL, or a JSON list of their lengths in bytes when one of
-- them has a line break inside (or there is no event at all).
CREATE TABLE IF NOT EXISTS history (
    part TINYINT UNSIGNED NOT NULL,
    instance_id VARBINARY(512) NOT NULL,
    run_id VARBINARY(512) NOT NULL,
    first_number BIGINT NOT NULL,
    last_number BIGINT NOT NULL,
    events LONGBLOB NOT NULL,
    lengths LONGTEXT,
    PRIMARY KEY (part, instance_id, run_id, first_number)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS inbox (
    part TINYINT UNSIGNED NOT NULL,
    instance_id VARBINARY(512) NOT NULL,
    number BIGINT NOT NULL,
    run_id VARBINARY(512),                    -- for this run only
    `key` VARBINARY(512) NOT NULL,
    kind VARBINARY(512) NOT NULL,
    body LONGTEXT NOT NULL,
    sent_at_us BIGINT NOT NULL,
    PRIMARY KEY (part, instance_id, number)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

-- The keys of messages, remembered after the messages were consumed.
CREATE TABLE IF NOT EXISTS message_keys (
    part TINYINT UNSIGNED NOT NULL,
    instance_id VARBINARY(512) NOT NULL,
    `key` VARBINARY(512) NOT NULL,
    PRIMARY KEY (part, instance_id, `key`)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS activities (
    part TINYINT UNSIGNED NOT NULL,
    run_id VARBINARY(512) NOT NULL,
    number BIGINT NOT NULL,
    instance_id VARBINARY(512) NOT NULL,
    workflow VARBINARY(512) NOT NULL,
    name VARBINARY(512) NOT NULL,
    queue VARBINARY(512) NOT NULL,
    payload LONGTEXT NOT NULL,
    options LONGTEXT NOT NULL,
    scheduled_at_us BIGINT NOT NULL,
    due_at_us BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    token VARBINARY(512),                     -- of whoever may finish the attempt
    lease_until_us BIGINT,
    details LONGTEXT,
    failure LONGTEXT,
    expires_at_us BIGINT,
    parked TINYINT NOT NULL,                  -- it will be finished from elsewhere
    expired TINYINT NOT NULL,                 -- it was handed out as expired
    held TINYINT NOT NULL,                    -- its run is paused
    claimable_at_us BIGINT,
    expirable_at_us BIGINT,
    PRIMARY KEY (part, instance_id, run_id, number),
    KEY activities_claimable (queue, name, claimable_at_us, instance_id, run_id, number),
    KEY activities_expirable (expirable_at_us)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

-- Ended runs with children that are to be closed too.
CREATE TABLE IF NOT EXISTS closings (
    part TINYINT UNSIGNED NOT NULL,
    run_id VARBINARY(512) NOT NULL,
    instance_id VARBINARY(512) NOT NULL,
    claimable_at_us BIGINT NOT NULL,
    PRIMARY KEY (part, instance_id, run_id),
    KEY closings_claimable (claimable_at_us)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS questions (
    part TINYINT UNSIGNED NOT NULL,
    id VARBINARY(512) NOT NULL,
    instance_id VARBINARY(512) NOT NULL,
    run_id VARBINARY(512),
    name VARBINARY(512) NOT NULL,
    body LONGTEXT NOT NULL,
    asked_at_us BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL,
    claimable_at_us BIGINT,                   -- NULL: answered
    reply LONGTEXT,
    kept_until_us BIGINT NOT NULL,
    PRIMARY KEY (part, instance_id, id),
    KEY questions_claimable (claimable_at_us),
    KEY questions_kept (kept_until_us)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS update_replies (
    part TINYINT UNSIGNED NOT NULL,
    instance_id VARBINARY(512) NOT NULL,
    id VARBINARY(512) NOT NULL,
    body LONGTEXT NOT NULL,
    PRIMARY KEY (part, instance_id, id)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

-- Events that are to be published; the row goes when that is done.
CREATE TABLE IF NOT EXISTS outbox (
    part TINYINT UNSIGNED NOT NULL,
    run_id VARBINARY(512) NOT NULL,
    sequence BIGINT NOT NULL,                 -- per run
    instance_id VARBINARY(512) NOT NULL,
    workflow VARBINARY(512) NOT NULL,
    id VARBINARY(512) NOT NULL,
    topic VARBINARY(512) NOT NULL,
    payload LONGTEXT NOT NULL,
    `key` VARBINARY(4096),
    headers LONGTEXT NOT NULL CHECK (JSON_VALID(headers)),
    created_at_us BIGINT NOT NULL,
    lease_until_us BIGINT NOT NULL,           -- or since when it is free
    PRIMARY KEY (part, instance_id, run_id, sequence),
    KEY outbox_order (created_at_us, run_id, sequence),
    KEY outbox_id (id),
    KEY outbox_leased (lease_until_us)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS roles (
    role VARBINARY(512) NOT NULL,
    worker_id VARBINARY(512) NOT NULL,
    lease_until_us BIGINT NOT NULL,
    PRIMARY KEY (role)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW runs AS
    SELECT * FROM instances UNION ALL SELECT * FROM past_runs;

-- For people: one row a run. Without the collation named, ids that differ in case alone would be equal.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW workflow_records AS
    SELECT CONVERT(workflow USING utf8mb4) COLLATE utf8mb4_bin AS workflow_name,
           CONVERT(instance_id USING utf8mb4) COLLATE utf8mb4_bin AS foreign_id,
           CONVERT(run_id USING utf8mb4) COLLATE utf8mb4_bin AS run_id,
           CONVERT(state USING utf8mb4) COLLATE utf8mb4_bin AS run_state,
           CONVERT(status USING utf8mb4) COLLATE utf8mb4_bin AS status,
           vars AS object,
           CAST(TIMESTAMPADD(MICROSECOND, created_at_us, '1970-01-01 00:00:00') AS DATETIME(6)) AS created_at,
           CAST(TIMESTAMPADD(MICROSECOND, updated_at_us, '1970-01-01 00:00:00') AS DATETIME(6)) AS updated_at
    FROM instances
    UNION ALL
    SELECT CONVERT(workflow USING utf8mb4) COLLATE utf8mb4_bin,
           CONVERT(instance_id USING utf8mb4) COLLATE utf8mb4_bin,
           CONVERT(run_id USING utf8mb4) COLLATE utf8mb4_bin,
           CONVERT(state USING utf8mb4) COLLATE utf8mb4_bin,
           CONVERT(status USING utf8mb4) COLLATE utf8mb4_bin,
           vars,
           CAST(TIMESTAMPADD(MICROSECOND, created_at_us, '1970-01-01 00:00:00') AS DATETIME(6)),
           CAST(TIMESTAMPADD(MICROSECOND, updated_at_us, '1970-01-01 00:00:00') AS DATETIME(6))
    FROM past_runs;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW workflow_outbox AS
    SELECT CONVERT(id USING utf8mb4) COLLATE utf8mb4_bin AS id,
           CONVERT(workflow USING utf8mb4) COLLATE utf8mb4_bin AS workflow_name,
           CONVERT(instance_id USING utf8mb4) COLLATE utf8mb4_bin AS foreign_id,
           CONVERT(run_id USING utf8mb4) COLLATE utf8mb4_bin AS run_id,
           CONVERT(topic USING utf8mb4) COLLATE utf8mb4_bin AS topic,
           CONVERT(`key` USING utf8mb4) COLLATE utf8mb4_bin AS `key`,
           payload,
           headers,
           CAST(TIMESTAMPADD(MICROSECOND, created_at_us, '1970-01-01 00:00:00') AS DATETIME(6)) AS created_at
    FROM outbox;
