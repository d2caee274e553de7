"""How far an engine has been given the chunks that were there when it was started."""

import msgspec


class Filling(msgspec.Struct, frozen=True):
    """Chunks before `next` and after `until` are in; those between are still to come. By id, which grows."""

    analyzer: int  # version of the terms
    next: int
    until: int

    @property
    def is_complete(self) -> bool:
        return self.next > self.until

    def holds(self, chunk_id: int) -> bool:
        """Whether a chunk is in, or must be put in by who made it; else its turn will come."""
        return not self.next <= chunk_id <= self.until

    def after(self, chunk_id: int) -> "Filling":
        return msgspec.structs.replace(self, next=chunk_id + 1)

    def completed(self) -> "Filling":
        return msgspec.structs.replace(self, next=self.until + 1)
