"""The commands that a running indexer carries out."""

import msgspec


class Follow(msgspec.Struct, tag=True, frozen=True):
    """Follow these folders from now on, by collection, and no others."""

    roots: dict[str, str]


class Pause(msgspec.Struct, tag=True, frozen=True):
    """Neither scan nor read from now on, also after a restart; or go on."""

    is_paused: bool


class Rescan(msgspec.Struct, tag=True, frozen=True):
    """Compare these collections (None: all) with their folders now, and try again to read the files that failed: all,
    or the one at this `path` in them.

    With `accept_deletions`, documents that are kept although their files are gone are deleted.
    """

    collections: tuple[str, ...] | None = None
    accept_deletions: bool = False
    path: str | None = None


Command = Follow | Pause | Rescan
