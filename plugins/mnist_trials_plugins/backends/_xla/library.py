"""The parts of torch_xla that this package uses, in one place: it has types for none, and public names not for all."""

from __future__ import annotations

import importlib
from typing import Any, Final

import torch

from mnist_trials_plugins.backends._xla.devices import without_remarks

with without_remarks():
    _library: Any = importlib.import_module("torch_xla")
    _metrics: Any = importlib.import_module("torch_xla.debug.metrics")

_native: Final[Any] = _library._XLAC  # the extension module: here are the things without a public name


def carry_out(tensors: list[torch.Tensor]) -> None:
    """Have `tensors` computed, and nothing else that was asked for."""
    _native._xla_sync_multi(tensors, devices=[], wait=False, sync_xla_data=False)


def values_of(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """`tensors` on the CPU, in one transfer; they are computed first if they have to be."""
    return list(_native._xla_get_cpu_tensors(tensors)) if tensors else []


def layout_of(tensor: torch.Tensor) -> str:
    """How `tensor` lies on the devices, as XLA writes it; empty where nothing was said of it."""
    return str(_native._get_xla_sharding_spec(tensor))


def lay_out(tensor: torch.Tensor, sharding: Any) -> None:
    """Say how `tensor` is to lie on the devices.

    `spmd.mark_sharding` does the same, after it has imported jax wherever that is installed, which takes seconds.
    """
    _native._xla_mark_sharding(tensor, sharding)


def parts_of(tensor: torch.Tensor) -> list[tuple[torch.Tensor, Any]]:
    """What each device has of `tensor`, which was computed, on the CPU, and the index of that in the whole."""
    (parts,) = _native._get_local_shards([tensor])
    (places,) = _native._get_local_shard_replica_and_indices([tensor])
    return [(part, tuple(place)) for (part, _), (_, place) in zip(parts, places, strict=True)]


def compiled() -> tuple[int, float]:
    """Programs that this process has compiled so far, and the seconds that took."""
    data = _metrics.metric_data("CompileTime")
    return (0, 0.0) if data is None else (int(data[0]), data[1] / 1e9)
