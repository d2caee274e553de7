"""The schema, as a list of migrations. A released migration is never edited; a new one is appended."""

MIGRATIONS = [
    """
    CREATE TABLE collections (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        root TEXT NOT NULL,
        is_active INTEGER NOT NULL,         -- configured in the run that is on now, or in the last one
        error TEXT,                         -- why the root cannot be read, while it cannot
        scanned_at REAL,                    -- end of the last full scan, Unix seconds
        changed_at REAL                     -- last time a document's content came, changed or went
    ) STRICT;

    CREATE TABLE documents (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        collection_id INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE,
        path TEXT NOT NULL,                 -- below the root, with /
        size INTEGER NOT NULL,              -- bytes, with mtime_ns as the file last looked
        mtime_ns INTEGER NOT NULL,
        sha256 TEXT,                        -- of the content its chunks were made from
        title TEXT,
        state TEXT NOT NULL CHECK (state IN ('pending', 'indexed', 'failed')),
        error TEXT,
        indexed_at REAL,
        UNIQUE (collection_id, path)
    ) STRICT;

    -- An id is never used twice, so that a stale hit of a cache is a miss and never another document's text.
    CREATE TABLE chunks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        document_id INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
        ordinal INTEGER NOT NULL,
        text TEXT NOT NULL,
        heading TEXT NOT NULL,              -- JSON array, outermost first
        char_from INTEGER NOT NULL,
        char_to INTEGER NOT NULL,
        line_from INTEGER NOT NULL,
        line_to INTEGER NOT NULL,
        content_hash BLOB NOT NULL          -- of what was embedded: headings and text
    ) STRICT;
    CREATE INDEX chunks_document ON chunks (document_id);
    CREATE INDEX chunks_content ON chunks (content_hash);

    -- By content, not by chunk: a file moved, renamed or chunked anew is not embedded again.
    CREATE TABLE vectors (
        content_hash BLOB NOT NULL,
        fingerprint TEXT NOT NULL,          -- of the embedder: one vector space
        vector BLOB NOT NULL,               -- float16, little-endian
        PRIMARY KEY (fingerprint, content_hash)
    ) STRICT, WITHOUT ROWID;

    CREATE VIRTUAL TABLE lexical USING fts5 (
        heading, text, content = '', contentless_delete = 1, tokenize = 'porter unicode61'
    );

    -- What an in-memory index must do to follow: in order, add or remove a chunk.
    CREATE TABLE changes (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        chunk_id INTEGER NOT NULL,
        is_removal INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE properties (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    """,
    """
    -- Both columns hold terms of the analyzer, separated by a space; ASCII terms consist of a-z, 0-9, '.', '_' and '-'.
    DROP TABLE lexical;
    CREATE VIRTUAL TABLE words USING fts5 (
        terms,
        scope,                              -- the collection, and the language the words were stemmed in
        content = '', contentless_delete = 1, tokenize = "ascii tokenchars '._-'"
    );
    """,
    # Vectors get a row number, which an index keeps: some hundred are read for every search, and a lookup by hash in
    # a table of whole rows goes through ten pages.
    """
    CREATE TABLE vectors_by_row (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        content_hash BLOB NOT NULL,
        fingerprint TEXT NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (content_hash, fingerprint)
    ) STRICT;
    INSERT INTO vectors_by_row (content_hash, fingerprint, vector)
        SELECT content_hash, fingerprint, vector FROM vectors;
    DROP TABLE vectors;
    ALTER TABLE vectors_by_row RENAME TO vectors;
    """,
    """
    ALTER TABLE chunks ADD COLUMN place TEXT;   -- JSON array: unit, first, last, name; NULL where lines say it
    ALTER TABLE chunks ADD COLUMN lead TEXT NOT NULL DEFAULT '';  -- header of the table the text goes on with
    ALTER TABLE documents ADD COLUMN note TEXT; -- what of an indexed document could not be read
    """,
    """
    ALTER TABLE documents ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;  -- 0: not known, so look again
    ALTER TABLE documents ADD COLUMN inode INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX documents_state ON documents (collection_id, state, size);
    ALTER TABLE collections ADD COLUMN identity TEXT;       -- of the folder that the last full scan saw
    ALTER TABLE collections ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;  -- documents whose files are gone
    ALTER TABLE collections ADD COLUMN missing_since REAL;  -- Unix seconds
    """,
]
