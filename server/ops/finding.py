"""The result of one check of an installation."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """`found` is what the check saw, `shown_by` a command that shows it without Cloister, `advice` what to do.

    `state`: a warning works, but not as well as it could; a failure does not work, or not safely.
    """

    state: Literal["ok", "warning", "failure"]
    name: str
    found: str
    shown_by: str = ""
    advice: str = ""
