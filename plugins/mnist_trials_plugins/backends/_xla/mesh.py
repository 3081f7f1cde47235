"""Tensors laid out over the devices of one process (GSPMD: Y. Xu et al., 2021)."""

from __future__ import annotations

from math import prod
from typing import final

import numpy as np
import torch
from torch import nn

from mnist_trials.config import Mesh
from mnist_trials.plugin import Rules
from mnist_trials_plugins.backends._torch.rules import dims_of, resolve
from mnist_trials_plugins.backends._xla.devices import without_remarks
from mnist_trials_plugins.backends._xla.library import lay_out, layout_of

Dims = tuple[str | None, ...]

_DATA, _TENSOR = "data", "tensor"


@final
class DeviceMesh:
    """The devices of this process as a mesh, row by row; what is not laid out by it lies whole on each of them."""

    def __init__(self, mesh: Mesh, *, shard: bool) -> None:
        """`shard`: parameters that no rule splits are split over the data dimension, as far as they divide."""
        with without_remarks():
            from torch_xla.distributed import spmd

        shape = (mesh.data, mesh.tensor)
        self._mesh = spmd.Mesh(np.arange(prod(shape)), shape, (_DATA, _TENSOR))
        self._data, self._tensor = shape
        self._shard = shard
        self._laid: dict[str, Dims] = {}  # how torch_xla writes it -> how it was said

    def lay_out_model(self, model: nn.Module, rules: Rules) -> None:
        """Split the parameters of `model`, which lie on the device.

        Raises:
            TrialError: a rule cannot be followed.
        """
        dims = self._dims(model, rules)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._lay_out(tensor, dims.get(name, (None,) * tensor.ndim))

    def _dims(self, model: nn.Module, rules: Rules) -> dict[str, Dims]:
        found: dict[str, Dims] = {}
        if self._tensor > 1:
            for prefix, split in resolve(rules, model, self._tensor).items():
                module = model.get_submodule(prefix)
                for leaf, dims in dims_of(module, split).items():
                    found[f"{prefix}.{leaf}".lstrip(".")] = dims
        if self._shard and self._data > 1:
            for name, parameter in model.named_parameters():
                if name not in found and parameter.ndim and parameter.shape[0] % self._data == 0:
                    found[name] = (_DATA, *[None] * (parameter.ndim - 1))
        return found

    def lay_out_batch(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor`, on the device, split over the data dimension by its rows, where these divide evenly."""
        if self._data > 1 and tensor.ndim and tensor.shape[0] % self._data == 0:
            self._lay_out(tensor, (_DATA, *[None] * (tensor.ndim - 1)))
        return tensor

    def lay_out_states(self, optimizer: torch.optim.Optimizer) -> None:
        """Lay tensors of the optimizer's state that have a parameter's shape out as the parameter is."""
        for parameter, state in optimizer.state.items():
            dims = self._laid.get(spec_of(parameter), (None,) * parameter.ndim)
            for value in state.values():
                if isinstance(value, torch.Tensor) and value.device.type == "xla":
                    self._lay_out(value, dims if value.shape == parameter.shape else (None,) * value.ndim)

    def part(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """`whole`, which lies on the device, laid out as `like` is."""
        if whole.shape == like.shape and (dims := self._laid.get(spec_of(like))) is not None:
            self._lay_out(whole, dims)
        return whole

    def _lay_out(self, tensor: torch.Tensor, dims: Dims) -> None:
        lay_out(tensor, self._mesh.get_op_sharding(dims))
        if any(dims):
            self._laid[spec_of(tensor)] = dims


def spec_of(tensor: torch.Tensor) -> str:
    """How `tensor` lies on the devices, as torch_xla writes it; empty where it is not known, or not on them."""
    return "" if tensor.device.type != "xla" else layout_of(tensor)


def is_split(tensor: torch.Tensor) -> bool:
    """Whether no device has the whole of `tensor`."""
    return "devices" in spec_of(tensor)
