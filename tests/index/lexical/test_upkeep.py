"""The upkeep of the lexical index: filling, following, switching engines, damage and crashes."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from index.errors import LexicalIndexError
from index.ingest.store import open_document_store
from index.lexical import analyzer, fts5, upkeep
from index.lexical.inverted import InvertedIndex
from index.lexical.search import FTS5, TANTIVY, LexicalSearch, active_engine, lexical_folder
from index.lexical.tantivy_files import newest_folder
from index.lexical.upkeep import LexicalUpkeep
from index.storage.records import FileStat
from index.storage.sqlite.database import FILE, open_reader, query, transaction
from index.storage.sqlite.migrations import MIGRATIONS
from index.types import Chunk, Collection
from tests.index.conftest import eventually

_UP, _DOWN = 20, 10


class Corpus:
    """Documents of one chunk each, the upkeep of their lexical index, and a search as the server does it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.writer = open_document_store(data)
        self.collection = self.writer.configure([Collection("notes", data)])["notes"]
        self.upkeep = LexicalUpkeep(self.writer.connection, data, _UP, _DOWN)
        self._reader: apsw.Connection | None = None
        self.texts: dict[str, str] = {}

    def index_document(self, path: str, text: str) -> None:
        self.texts[path] = text
        chunk = Chunk(text, (), 0, len(text), 1, 1)
        self.writer.replace(self.collection, path, FileStat(1, 1), "x", None, [chunk])

    def remove(self, *paths: str) -> None:
        for path in paths:
            del self.texts[path]
        self.writer.remove(self.collection, paths)

    def index_numbers(self, numbers: range) -> None:
        for number in numbers:
            self.index_document(f"{number}.md", f"alpha unique{number}")

    def settle(self) -> None:
        while self.upkeep.advance():
            pass

    def search_paths(self, question: str) -> list[str]:
        """Return the paths of the hits that still exist."""
        if self._reader is None:
            self._reader = open_reader(self.data)
            self._search = LexicalSearch(self.data)
        hits = self._search.search(self._reader, question, 1000, None)
        paths = dict(
            query(self._reader, "SELECT chunks.id, path FROM chunks JOIN documents ON documents.id = document_id")
        )
        current_paths = [paths[id] for id, _ in hits if id in paths]
        assert len(current_paths) == len(set(current_paths))
        return current_paths

    def check(self) -> None:
        """Assert that exactly the stored documents are found."""
        for question in ("alpha", "beta"):
            expected = {path for path, text in self.texts.items() if question in text}
            assert set(self.search_paths(question)) == expected

    @property
    def engine(self) -> str:
        return active_engine(self.writer.connection)

    @property
    def num_rows(self) -> int:
        return int(query(self.writer.connection, "SELECT count(*) FROM words")[0][0])

    @property
    def folder(self) -> Path:
        folder = newest_folder(lexical_folder(self.data))
        assert folder is not None
        return folder

    def crash(self) -> "Corpus":
        """Return a corpus over a copy of the data folder as it is on disk now, with nothing closed."""
        after = self.data.with_name(f"{self.data.name}+")
        shutil.copytree(self.data, after)
        self.close()
        survivor = Corpus(after)
        survivor.texts = dict(self.texts)
        return survivor

    def close(self) -> None:
        self.upkeep.close()
        self.writer.close()
        if self._reader is not None:
            self._reader.close()


@pytest.fixture
def corpora(tmp_path: Path) -> Iterator[list[Corpus]]:
    """Yield a list of corpora, the first of them new, and close them at the end."""
    opened = [Corpus(tmp_path / "data")]
    opened[0].settle()
    yield opened
    opened[-1].close()


@pytest.fixture
def corpus(corpora: list[Corpus]) -> Corpus:
    return corpora[0]


@pytest.fixture
def large(corpus: Corpus) -> Corpus:
    corpus.index_numbers(range(30))
    corpus.settle()
    assert corpus.engine == TANTIVY
    return corpus


def test_a_small_corpus_has_an_fts5_index_alone(corpus: Corpus) -> None:
    corpus.index_numbers(range(5))
    corpus.settle()
    corpus.check()
    assert corpus.engine == FTS5
    assert newest_folder(lexical_folder(corpus.data)) is None


def test_the_engine_follows_the_size_of_the_corpus_with_a_gap(corpus: Corpus) -> None:
    engines = []
    for size in (_UP, _UP + 1, _UP, _DOWN, _DOWN - 1, _DOWN, _UP, _UP + 1):
        numbers = {int(path.removesuffix(".md")) for path in corpus.texts}
        corpus.remove(*(f"{number}.md" for number in numbers if number >= size))
        corpus.index_numbers(range(len(corpus.texts), size))
        corpus.settle()
        corpus.check()
        engines.append(corpus.engine)
        assert corpus.num_rows == (size if corpus.engine == FTS5 else 0)
    assert engines == [FTS5, TANTIVY, TANTIVY, TANTIVY, FTS5, FTS5, FTS5, TANTIVY]


def test_tantivy_follows_saves_changes_and_removals(large: Corpus) -> None:
    large.index_document("new.md", "beta")
    large.index_document("3.md", "beta instead")
    large.remove("4.md", "5.md")
    assert "4.md" not in large.search_paths("alpha")  # at once, before the index has followed
    large.settle()
    large.check()
    assert large.search_paths("unique3") == []


def test_a_chunk_added_and_removed_between_two_commits_is_not_indexed(large: Corpus) -> None:
    large.index_document("brief.md", "beta")
    large.remove("brief.md")
    large.index_document("brief.md", "beta again")
    large.settle()
    large.check()


def test_an_index_is_filled_in_blocks_and_new_documents_are_found_meanwhile(
    corpora: list[Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus,) = corpora
    monkeypatch.setattr(upkeep, "_BLOCK", 4)
    corpus.index_numbers(range(30))
    assert corpus.upkeep.advance()
    corpus.index_document("new.md", "beta")
    corpus.remove("1.md", "29.md")
    assert corpus.upkeep.advance()
    corpus.check()
    before = corpus.folder
    corpora.append(corpus.crash())
    corpus = corpora[-1]
    assert corpus.upkeep.advance()
    assert corpus.folder.name == before.name  # it goes on, and does not begin again
    corpus.settle()
    corpus.check()
    assert corpus.engine == TANTIVY


def test_a_corpus_that_grows_again_while_fts5_is_filled_keeps_tantivy(
    large: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_BLOCK", 2)
    large.remove(*(f"{number}.md" for number in range(5, 30)))
    assert large.upkeep.advance()
    assert large.num_rows == 2
    large.index_numbers(range(5, 30))
    large.settle()
    large.check()
    assert (large.engine, large.num_rows) == (TANTIVY, 0)


def test_a_crash_between_the_commits_loses_nothing(large: Corpus, corpora: list[Corpus]) -> None:
    large.index_document("new.md", "beta")
    large.remove("7.md")
    after = large.crash()
    corpora.append(after)
    after.settle()
    after.check()


def _flip(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _truncate(rng: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def _remove(_: random.Random, path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_flip, _truncate, _remove])
def test_damage_is_detected_by_reader_and_writer_and_repaired(
    large: Corpus, corpora: list[Corpus], damage: Callable[[random.Random, Path], None]
) -> None:
    rng = random.Random(damage.__name__)
    large.upkeep.close()
    names = [path.name for path in _read_files(large)]
    for _ in range(60):
        name = rng.choice(names)
        before = (large.folder / name).read_bytes()
        damage(rng, large.folder / name)
        if name != "meta.json" or damage is not _flip or not _is_equivalent(before, large.folder / name):
            with pytest.raises(LexicalIndexError):
                InvertedIndex(large.folder, large.writer.database_id())
        (large.folder / name).write_bytes(before)
    damage(rng, large.folder / rng.choice(names))
    assert large.search_paths("alpha") == []  # the server goes on with vectors alone
    after = large.crash()
    corpora.append(after)
    after.settle()
    after.check()


def _read_files(corpus: Corpus) -> list[Path]:
    """Return the files that tantivy reads and that can be damaged."""
    files = (path for path in corpus.folder.iterdir() if not path.name.startswith(".") and path.name != "sums.json")
    return sorted(path for path in files if path.stat().st_size)


def test_an_intact_file_in_the_place_of_another_is_detected(large: Corpus) -> None:
    large.index_numbers(range(100, 130))
    large.settle()
    large.upkeep.close()
    (first, second, *_) = [path for path in _read_files(large) if path.suffix == ".idx"]
    first.write_bytes(second.read_bytes())
    with pytest.raises(LexicalIndexError, match="is another file"):
        InvertedIndex(large.folder, large.writer.database_id())


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[]", b"{}"])
def test_without_written_checksums_files_are_verified_by_their_footers(large: Corpus, content: bytes | None) -> None:
    large.upkeep.close()
    sums = large.folder / "sums.json"
    sums.unlink() if content is None else sums.write_bytes(content)
    large.check()


def _is_equivalent(before: bytes, meta: Path) -> bool:
    """Return whether meta.json means what it did: white space and the first operation's number may differ."""
    try:
        old, new = msgspec.json.decode(before), msgspec.json.decode(meta.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return bool({**old, "opstamp": 0} == {**new, "opstamp": 0})


def test_an_index_of_another_database_is_not_used(large: Corpus, corpora: list[Corpus]) -> None:
    after = large.crash()
    corpora.append(after)
    with transaction(after.writer.connection):
        after.writer.connection.execute("UPDATE properties SET value = 'other' WHERE name = 'id'")
    assert after.search_paths("alpha") == []
    after.upkeep = LexicalUpkeep(after.writer.connection, after.data, _UP, _DOWN)
    before = after.folder
    after.settle()
    assert after.folder != before
    assert not before.exists()


def test_an_index_too_far_behind_is_built_again(large: Corpus, corpora: list[Corpus]) -> None:
    large.index_document("new.md", "beta")
    large.writer.trim_changes(large.writer.last_change())
    large.index_document("newer.md", "beta")
    large.writer.trim_changes(large.writer.last_change())
    after = large.crash()
    corpora.append(after)
    before = after.folder
    after.settle()
    after.check()
    assert after.folder != before


@pytest.mark.parametrize("size", [8, 30])
def test_another_version_of_the_analyzer_fills_the_index_again_without_losing_documents(
    corpora: list[Corpus], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    corpora[0].index_numbers(range(size))
    corpora[0].settle()
    monkeypatch.setattr(fts5, "VERSION", analyzer.VERSION + 1)
    monkeypatch.setattr(upkeep, "VERSION", analyzer.VERSION + 1)
    monkeypatch.setattr(upkeep, "_BLOCK", 3)
    corpora.append(corpora[0].crash())
    after = corpora[-1]
    monkeypatch.setattr(analyzer.Analyzer, "document", lambda _, text: analyzer.Analysis(f"new {text}", "english"))
    assert after.upkeep.advance()
    assert 0 < len(after.search_paths("new")) < size
    after.settle()
    assert len(after.search_paths("new")) == size


def test_a_failing_disk_is_logged_and_tried_again(
    large: Corpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise LexicalIndexError(large.folder, "no space left on device")

    large.index_document("new.md", "beta")
    with monkeypatch.context() as broken:
        broken.setattr("index.lexical.inverted_writer.InvertedWriter.commit", fail)
        assert not large.upkeep.advance()
    assert "no space left" in caplog.text
    assert large.upkeep.seq is not None
    monkeypatch.setattr(upkeep, "_RETRY_S", 0)
    large.upkeep._retry_at = 0
    large.settle()
    large.check()


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.index.lexical.test_upkeep import Corpus
corpus = Corpus(Path(sys.argv[1]))
corpus.settle()
for number in range(100, 100_000):
    corpus.index_document(f"{number}.md", f"alpha unique{number}")
    corpus.index_document("0.md", f"beta {number}")
    corpus.upkeep.advance()
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_loses_no_document(large: Corpus) -> None:
    large.close()
    rng = random.Random(6)
    for _ in range(4):
        root = str(Path(__file__).parents[3])
        child = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(large.data), root], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(rng.randint(2, 12)):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        after = Corpus(large.data)
        rows = query(
            after.writer.connection, "SELECT path, text FROM chunks JOIN documents ON documents.id = document_id"
        )
        after.texts = {str(path): str(text) for path, text in rows}
        after.settle()
        after.check()
        assert len(after.texts) > 30
        after.close()
    large.__init__(large.data)  # type: ignore[misc]


def test_a_server_follows_the_commits_of_another_process(large: Corpus) -> None:
    assert large.search_paths("beta") == []
    large.index_document("new.md", "beta")
    eventually(lambda: large.upkeep.advance() is False and large.search_paths("beta") == ["new.md"])


def test_a_database_of_the_first_schema_keeps_its_chunks_findable(tmp_path: Path) -> None:
    (old := apsw.Connection(str(tmp_path / FILE))).execute(MIGRATIONS[0])
    old.pragma("user_version", 1)
    old.execute(
        "INSERT INTO collections (id, name, root, is_active) VALUES (1, 'notes', '/', 1);"
        "INSERT INTO documents (id, collection_id, path, size, mtime_ns, state) VALUES (1, 1, 'a.md', 1, 1, 'indexed');"
        "INSERT INTO chunks VALUES (1, 1, 0, 'alpha', '[\"Beta\"]', 0, 5, 1, 1, x'00');"
        "INSERT INTO lexical (rowid, heading, text) VALUES (1, 'a Beta', 'alpha')"
    )
    old.close()
    corpus = Corpus(tmp_path)
    corpus.settle()
    assert corpus.search_paths("alphas") == corpus.search_paths("beta") == ["a.md"]
    corpus.close()
