"""A model split over the tensor dimension of a mesh, and over its data dimension."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from mnist_trials_plugins.backends._torch.rules import Split

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_ELEMENTWISE: Final = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Identity,
    nn.LeakyReLU,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
)


def split_tensors(model: nn.Module, splits: Mapping[str, Split], mesh: DeviceMesh) -> None:
    """Leave of the modules named in `splits` on each rank of the 1-D `mesh` its part. Every rank has the same values.

    A layer split by outputs hands them on whole, which is right in any model, unless it is known who takes them: a
    layer split by inputs that follows in the same Sequential, with nothing but elementwise modules in between (as in
    M. Shoeybi et al., Megatron-LM, 2019, section 3).
    """
    chained = _chained(model, splits)
    for name, split in splits.items():
        module = model.get_submodule(name)
        parallelize_module(module, mesh, _style(split, module in chained), src_data_rank=None)


def _style(split: Split, chained: bool) -> ParallelStyle:
    """`chained`: whether what goes between two layers stays split."""
    between = Shard(-1) if chained else Replicate()
    if split is Split.OUTPUTS:
        return ColwiseParallel(input_layouts=Replicate(), output_layouts=between)
    return RowwiseParallel(input_layouts=between, output_layouts=Replicate())


def _chained(model: nn.Module, splits: Mapping[str, Split]) -> set[nn.Module]:
    """Layers split by outputs, each with the one split by inputs that takes what it gives."""
    by_module = {model.get_submodule(name): split for name, split in splits.items()}
    uses = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    chained: set[nn.Module] = set()
    for stack in model.modules():
        if type(stack) is not nn.Sequential:
            continue
        layers = [module for module in stack if not isinstance(module, _ELEMENTWISE)]
        for first, second in pairwise(layers):
            fits = by_module.get(first) is Split.OUTPUTS and by_module.get(second) is Split.INPUTS
            if fits and isinstance(second, nn.Linear) and uses[first] == uses[second] == 1:
                chained |= {first, second}
    return chained


def shard_data(models: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Split parameters, gradients and optimizer states over the ranks of the 1-D `mesh` (FSDP2), model by model.

    A model is one unit: a forward pass gathers all of its parameters, and forgets them afterwards, so that between
    passes parameters are always parts.
    """
    for model in models:
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
