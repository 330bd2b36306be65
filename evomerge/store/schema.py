"""Tables of a study's database, as plain SQL."""

FORMAT = 3
"""Changes when a database of this version can no longer be read by the last one's code."""

TABLES = """
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL                 -- JSON
) WITHOUT ROWID;

CREATE TABLE trials (
    number      INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL,          -- source, baseline, candidate
    name        TEXT NOT NULL,
    genome      TEXT,                   -- JSON object, candidates only
    recipe      TEXT NOT NULL,          -- JSON, complete
    status      TEXT NOT NULL,          -- open, complete, failed
    estimates   TEXT,                   -- JSON [[value, standard error], …] by objective
    constraints TEXT,                   -- JSON, the same by constraint
    violation   REAL NOT NULL DEFAULT 0,
    stage       TEXT,                   -- of a failure
    reason      TEXT,
    timings     TEXT NOT NULL DEFAULT '{}',
    item_evaluations INTEGER NOT NULL DEFAULT 0,
    asked_at    REAL NOT NULL,
    finished_at REAL
);

CREATE TABLE events (                   -- what the optimizer was asked and told, in order
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,             -- ask, tell
    count    INTEGER NOT NULL,          -- candidates asked for
    trials   TEXT NOT NULL              -- JSON list of trial numbers
);

CREATE TABLE responses (                -- never updated, only added to
    recipe   TEXT NOT NULL,             -- digest
    task     TEXT NOT NULL,
    version  TEXT NOT NULL,             -- of the task
    settings TEXT NOT NULL,             -- digest of the evaluation settings
    items    TEXT NOT NULL,             -- JSON list of item ids
    answers  TEXT NOT NULL              -- JSON {metric: [one value an item]}
);
CREATE INDEX responses_of_recipe ON responses (recipe, settings);

CREATE TABLE sessions (                 -- each time a process worked on the study
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    started  REAL NOT NULL,
    seen     REAL NOT NULL,             -- last sign of life
    ended    REAL,
    seconds  REAL NOT NULL DEFAULT 0,   -- worked, by a clock that nobody sets
    reason   TEXT,                      -- how it ended; NULL after a kill
    versions TEXT NOT NULL              -- JSON {package: version}
);

CREATE TABLE workers (                  -- as they stood when last looked at
    session  INTEGER NOT NULL,
    name     TEXT NOT NULL,
    node     TEXT NOT NULL,
    condition TEXT NOT NULL,            -- starting, idle, busy, lost
    trial    INTEGER,                   -- that it is busy with
    jobs     INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    busy     REAL NOT NULL,             -- seconds
    ready    REAL NOT NULL,             -- seconds
    PRIMARY KEY (session, name)
) WITHOUT ROWID;

CREATE TABLE incidents (                -- what befell workers
    session  INTEGER NOT NULL,
    at       REAL NOT NULL,
    worker   TEXT NOT NULL,
    trial    INTEGER,
    what     TEXT NOT NULL
);
"""
