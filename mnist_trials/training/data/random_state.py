"""Random numbers of data loading that neither depend on those of training nor change them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import get_worker_info

_NUMPY_SEEDS = 1 << 32


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's (CPU) random numbers, seeded with `seed` for the time of a `with` block.

    In a process of a DataLoader, which serves nothing else, they are not put back afterwards.
    """
    if get_worker_info() is not None:
        _seed(seed)
        yield
        return
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    _seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def reseed(seed: int) -> None:
    """Seed Python's, numpy's and torch's random numbers, those of devices too."""
    _seed(seed)
    torch.manual_seed(seed)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)
    torch.default_generator.manual_seed(seed)
