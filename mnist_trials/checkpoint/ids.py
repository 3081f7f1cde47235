"""Ids of checkpoints. One that was made for an experiment tells so: in a storage shared by many, each finds its own.

An id is a random UUID. The last twelve digits of one that is made for an owner are that owner's, drawn at random
once for each experiment. So whose a half-written checkpoint is needs no second name and no file beside it, and there is
no moment at which it is not known.
"""

from __future__ import annotations

import secrets
import uuid
from typing import Final

_OWNER_BYTES: Final = 6  # the last field of a UUID; two of a million experiments are alike in one case of 500


def new_owner() -> str:
    """A mark for the ids of one experiment, that no other experiment anywhere has: twelve hexadecimal digits."""
    return secrets.token_hex(_OWNER_BYTES)


def new_checkpoint_id(owner: str = "") -> str:
    """An id that no other checkpoint has: a random UUID, which ends with `owner` (see `new_owner`) if there is one."""
    if not owner:
        return str(uuid.uuid4())
    digits = secrets.token_hex(16 - _OWNER_BYTES)
    # Version 8 of RFC 9562, whose digits may mean what one wants; 74 of them stay random bits.
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{'89ab'[int(digits[16], 16) % 4]}{digits[17:20]}-{owner}"


def is_owned(checkpoint_id: str, owner: str) -> bool:
    """Whether `checkpoint_id` was made for `owner`."""
    return bool(owner) and checkpoint_id.endswith(f"-{owner}")
