"""The engine of a large corpus: tantivy, a cache on disk of which SQLite is the truth.

tantivy's files are written once, and each commit replaces `meta.json` as a whole. A commit carries a document that says
of which database and analyzer it is, the newest change in it and its number of chunks. So files and this information
cannot disagree at any moment.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import tantivy
from tantivy import Occur, Query

from index.errors import LexicalIndexError
from index.lexical.fill_progress import FillProgress
from index.lexical.languages import LATIN
from index.lexical.rows import collection_term, language_term
from index.lexical.tantivy_files import (
    ENGINE,
    IndexMeta,
    MetaIdentity,
    VerifiedFiles,
    lexical_index_errors,
    meta_identity,
    new_schema,
    read_meta,
)
from index.types import Hits, Ids

COMMIT_ID = 0  # of the document that describes the commit; chunks count from 1

_MAX_QUERY_IDS = 10_000  # chunk ids that a query may name
_DEEPER = 8  # times as many hits as before
_ATTEMPTS = 5  # at a folder that changes while it is read


class CommitInfo(msgspec.Struct, frozen=True):
    """The description of a commit, which is stored in it."""

    database: str
    engine: str  # tantivy's version: files of another one are not read
    filling: FillProgress
    seq: int  # the newest change in it
    count: int  # chunks


class InvertedIndex:
    """Reads one index folder; `refresh` follows its writer's commits. Everything raises `LexicalIndexError`."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self._database = database
        self._files = VerifiedFiles(folder)
        self._read_identity: MetaIdentity | None = None
        with lexical_index_errors(folder):
            self._schema = new_schema()
            read_meta(folder)  # before tantivy does, which is not made for hostile files
            self._files.verify()
            self._index = tantivy.Index.open(str(folder))
            self._index.config_reader(reload_policy="manual")
        self.refresh()

    def refresh(self) -> None:
        """Take in the newest commit. Cheap when there is none."""
        with lexical_index_errors(self.folder):
            for _ in range(_ATTEMPTS):
                identity = meta_identity(self.folder)
                if identity == self._read_identity:
                    return
                meta = self._files.verify()
                self._index.reload()
                if meta_identity(self.folder) == identity:
                    break
            else:
                return  # the writer is busy: the next query finds its commit
            self._searcher = self._index.searcher()
            self.commit_info = self._read_commit_info()
            self._check(meta)
            self._languages = [x for x in LATIN if self._searcher.doc_freq("scope", language_term(x))]
            self._read_identity = identity

    def _read_commit_info(self) -> CommitInfo:
        hits = self._searcher.search(Query.term_query(self._schema, "chunk", COMMIT_ID), 2, count=False).hits
        if len(hits) != 1:
            raise LexicalIndexError(self.folder, "it does not say what commit it is")
        return msgspec.json.decode(self._searcher.doc(hits[0][1])["mark"][0], type=CommitInfo)

    def _check(self, meta: IndexMeta) -> None:
        info, num_docs = self.commit_info, self._searcher.num_docs
        if (info.database, info.engine) != (self._database, ENGINE):
            raise LexicalIndexError(self.folder, "it is of another database or of another version of tantivy")
        if not info.count + 1 == num_docs == meta.num_docs:
            raise LexicalIndexError(self.folder, f"{num_docs - 1} chunks are in it where {info.count} should be")

    def write_sums(self) -> None:
        """Write the checksums of the verified files. Only the one writer of the folder does."""
        with lexical_index_errors(self.folder):
            self._files.write_sums()

    def has(self, chunk_id: int) -> bool:
        with lexical_index_errors(self.folder):
            return bool(self._searcher.doc_freq("chunk", chunk_id))

    def languages(self) -> list[str]:
        """Return the Latin languages of the chunks."""
        return self._languages

    def search(
        self, terms: Counter[str], k: int, collection_ids: Sequence[int] | None, only: Ids | None = None
    ) -> Hits:
        """Return the `k` best chunks with their BM25, best first; of these collections (None: all), and among the ids
        in `only` where given."""
        if not terms or (collection_ids is not None and not collection_ids):
            return []
        with lexical_index_errors(self.folder):
            query = self._query(terms, collection_ids)
            if only is None:
                return self._hits(query, k)
            if len(only) <= _MAX_QUERY_IDS:
                return self._hits(self._restrict(query, only), k)
            return self._hits_among(query, k, only)

    def _hits(self, query: Query, k: int) -> Hits:
        hits = self._searcher.search(query, k, count=False).hits
        ids = self._searcher.fast_field_values("chunk", [address for _, address in hits])
        return [(int(id), float(score)) for (score, _), id in zip(hits, ids, strict=True) if id is not None]

    def _restrict(self, query: Query, only: Ids) -> Query:
        among = Query.term_set_query(self._schema, "chunk", only.tolist())
        return Query.boolean_query([(Occur.Must, Query.const_score_query(among, 0.0)), (Occur.Must, query)])

    def _hits_among(self, query: Query, k: int, only: Ids) -> Hits:
        """Filter ever longer lists of hits, which is faster than a query that names very many ids."""
        depth = k
        while True:
            depth *= _DEEPER
            hits = self._hits(query, depth)
            is_among = np.isin(np.array([id for id, _ in hits], np.int64), only)
            if len(hits) < depth or is_among.sum() >= k:
                return [hit for hit, keep in zip(hits, is_among, strict=True) if keep][:k]

    def _query(self, terms: Counter[str], collection_ids: Sequence[int] | None) -> Query:
        words = [
            (Occur.Should, Query.boost_query(Query.term_query(self._schema, "terms", term, "freq"), float(times)))
            for term, times in terms.items()
        ]
        if collection_ids is None:
            return Query.boolean_query(words)  # of terms alone: tantivy skips what cannot be among the best
        scope = Query.term_set_query(self._schema, "scope", [collection_term(id) for id in collection_ids])
        return Query.boolean_query(
            [(Occur.Must, Query.const_score_query(scope, 0.0)), (Occur.Must, Query.boolean_query(words))]
        )
