"""The schema of uploaded files and vector stores. Other names are used in Python: members are attachments."""

MIGRATIONS = (
    """
    CREATE TABLE files (
        at INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order they were added in
        id TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,                  -- bytes
        created_at INTEGER NOT NULL,
        filename TEXT NOT NULL,
        purpose TEXT NOT NULL,
        expires_at INTEGER,
        owner TEXT NOT NULL
    ) STRICT;
    CREATE INDEX files_expires_at ON files (expires_at);

    CREATE TABLE stores (
        at INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        last_active_at INTEGER NOT NULL,
        description TEXT,
        days INTEGER,                           -- without use, after which it expires
        metadata TEXT NOT NULL,                 -- JSON
        owner TEXT NOT NULL
    ) STRICT;

    CREATE TABLE members (
        at INTEGER PRIMARY KEY AUTOINCREMENT,
        store_id TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
        file_id TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        created_at INTEGER NOT NULL,
        attributes TEXT NOT NULL,               -- JSON
        chunking TEXT,                          -- JSON: size and overlap; NULL: as suits the embedder
        is_cancelled INTEGER NOT NULL DEFAULT 0,
        failure TEXT,                           -- JSON: why it was not even tried
        UNIQUE (store_id, file_id)
    ) STRICT;
    CREATE INDEX members_file ON members (file_id);

    CREATE TABLE batches (
        id TEXT PRIMARY KEY,
        store_id TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
        created_at INTEGER NOT NULL,
        cancelled_at INTEGER
    ) STRICT;
    CREATE INDEX batches_store ON batches (store_id);

    CREATE TABLE batch_files (
        batch_id TEXT NOT NULL REFERENCES batches ON DELETE CASCADE,
        file_id TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        PRIMARY KEY (batch_id, file_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX batch_files_file ON batch_files (file_id);

    -- When a watched folder was first seen, by the name of its collection: it has no other date.
    CREATE TABLE folders (name TEXT PRIMARY KEY, created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    """,
)
