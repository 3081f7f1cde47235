"""Which operations torch has for a kind of device, as its dispatcher knows; no device is needed to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

_MADE_OF_OTHERS: Final = ("CompositeExplicitAutograd", "CompositeImplicitAutograd")
"""An operation registered so is carried out as several others, on any device."""


def without_kernel(operations: Sequence[str], key: str) -> list[str]:
    """Those of `operations` (such as `aten::add.Tensor`) that have no kernel for the dispatch key, such as `CUDA`."""
    return [name for name in operations if not any(_is_registered(name, k) for k in (key, *_MADE_OF_OTHERS))]


def _is_registered(operation: str, key: str) -> bool:
    try:
        return bool(torch._C._dispatch_has_kernel_for_dispatch_key(operation, key))
    except RuntimeError:  # none of the dispatcher's: it has others carried out, which are named beside it
        return True
