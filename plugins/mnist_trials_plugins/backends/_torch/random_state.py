"""Random numbers of a process: seeding, saving, going back; and determinism."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

_NUMPY_SEEDS = 1 << 32


def seed_all(seed: int) -> None:
    """Seed python's, numpy's and torch's random numbers, on all devices."""
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)
    torch.manual_seed(seed)


def seed_of(seed: int, data_rank: int) -> int:
    """A seed for the random numbers of training on `data_rank` that depends on both and on nothing else."""
    return int(np.random.SeedSequence((seed, data_rank)).generate_state(1, np.uint64)[0])


def random_state(device: torch.device) -> dict[str, Any]:
    """Where all generators stand: tensors and plain values."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "device": {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {},
    }


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Go back to what `random_state` gave, perhaps on another kind of device."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state["device"]:
        torch.cuda.set_rng_state(state["device"]["cuda"], device)


def set_determinism(deterministic: bool) -> None:
    """Whether operations must give the same bits each time, or fail where torch has no such way."""
    if deterministic == torch.are_deterministic_algorithms_enabled():
        return  # finer settings of a script's own stay as they are
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        torch.backends.cudnn.benchmark = False
