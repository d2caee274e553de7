"""The change log: numbered additions and removals of chunks, which the indexes outside the database follow."""

from typing import NamedTuple

import apsw

from index.storage.sqlite.database import query

# Two look-ups by index; `SELECT min(seq), max(seq)` would read the whole table.
_BOUNDS = "SELECT coalesce((SELECT min(seq) FROM changes), 0), coalesce((SELECT max(seq) FROM changes), 0)"


class ChangeBounds(NamedTuple):
    """The numbers of the oldest and the newest change that the log still has; 0 while it is empty."""

    oldest: int
    newest: int

    def can_follow(self, seq: int) -> bool:
        """Return whether the log has every change after `seq`."""
        return max(self.oldest - 1, 0) <= seq <= self.newest


class Changes(NamedTuple):
    """A run of the log: the ids of the chunks that it removes, and of those that it adds and does not remove again."""

    removed: set[int]
    added: list[int]
    seq: int  # of the last change
    num_changes: int


def change_bounds(db: apsw.Connection) -> ChangeBounds:
    ((oldest, newest),) = query(db, _BOUNDS)
    return ChangeBounds(oldest=oldest, newest=newest)


def read_changes(db: apsw.Connection, after: int, limit: int) -> Changes | None:
    """Return the next changes after the number `after`, at most `limit`; None when there are none."""
    sql = "SELECT seq, chunk_id, is_removal FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
    rows = query(db, sql, (after, limit))
    if not rows:
        return None
    removed = {chunk_id for _, chunk_id, is_removal in rows if is_removal}
    added = [chunk_id for _, chunk_id, is_removal in rows if not is_removal and chunk_id not in removed]
    return Changes(removed=removed, added=added, seq=rows[-1][0], num_changes=len(rows))
