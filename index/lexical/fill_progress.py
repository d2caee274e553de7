"""The progress of filling a new lexical index with the chunks that existed when it was started."""

import msgspec


class FillProgress(msgspec.Struct, frozen=True):
    """The chunks with ids from `next` to `until` are still to be added. Ids only grow; newer chunks are added as they
    are made."""

    analyzer: int  # version of the terms
    next: int
    until: int

    @property
    def is_complete(self) -> bool:
        return self.next > self.until

    def covers(self, chunk_id: int) -> bool:
        """Return whether a change of this chunk applies to the index: False while its turn to be added is to come."""
        return not self.next <= chunk_id <= self.until

    def after(self, chunk_id: int) -> "FillProgress":
        """Return the progress once all chunks up to this one are added."""
        return msgspec.structs.replace(self, next=chunk_id + 1)

    def to_end(self) -> "FillProgress":
        return msgspec.structs.replace(self, next=self.until + 1)
