"""What a trial's rules for splitting parameters come to, checked against its model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, final

from torch import nn

from mnist_trials.plugin import Rules
from mnist_trials_plugins.backends._rules import TENSOR, Dims, dims_by_parameter, refuse, shape_problems


@final
class Split(Enum):
    """How the weight of a Linear or an Embedding is split, by what each rank then computes."""

    OUTPUTS = "outputs"  # some of the output features
    INPUTS = "inputs"  # a summand of the output, from some of the input features or of the vocabulary


_BY_WEIGHT: Final[Mapping[type[nn.Module], Mapping[Dims, Split]]] = {
    nn.Linear: {(TENSOR, None): Split.OUTPUTS, (None, TENSOR): Split.INPUTS},
    nn.Embedding: {(None, TENSOR): Split.OUTPUTS, (TENSOR, None): Split.INPUTS},
}


def dims_of(module: nn.Module, split: Split) -> dict[str, Dims]:
    """How the parameters of `module`, by their names in it, are split so that it computes as `split` says."""
    weight = next(dims for dims, meaning in _BY_WEIGHT[type(module)].items() if meaning is split)
    if split is Split.INPUTS or getattr(module, "bias", None) is None:
        return {"weight": weight}
    return {"weight": weight, "bias": (TENSOR,)}


def resolve(rules: Rules, model: nn.Module, ranks: int) -> dict[str, Split]:
    """The modules of `model` that are split over `ranks` ranks, by name.

    Raises:
        TrialError: a rule cannot be followed, or there is none; all reasons are in the text.
    """
    problems: list[str] = []
    dims = dims_by_parameter(rules, [name for name, _ in model.named_parameters()], problems)
    by_module: dict[str, dict[str, Dims]] = defaultdict(dict)
    for name, wanted in dims.items():
        module, _, leaf = name.rpartition(".")
        problems += _problems_of(name, wanted, model, ranks)
        by_module[module][leaf] = wanted
    refuse(problems, ranks)
    found = {name: _split(name, parameters, model, problems) for name, parameters in by_module.items()}
    refuse(problems, ranks)
    return {name: split for name, split in found.items() if split is not None}


def _problems_of(name: str, wanted: Dims, model: nn.Module, ranks: int) -> Iterator[str]:
    parameter = model.get_parameter(name)
    shape = tuple(parameter.shape)
    yield from shape_problems(name, shape, wanted, ranks)
    if len(wanted) != len(shape):
        return
    module = model.get_submodule(name.rpartition(".")[0])
    if TENSOR in wanted and type(module) not in _BY_WEIGHT:
        yield f"{name!r} belongs to a {type(module).__name__}; only Linear and Embedding can be split"
    if TENSOR in wanted and len(sharers := _sharers(parameter, model)) > 1:
        yield f"{name!r} is shared by {' and '.join(map(repr, sharers))}; what several modules share stays whole"
    if TENSOR in wanted and isinstance(module, nn.Embedding) and module.max_norm is not None:
        yield f"{name!r} belongs to an Embedding with max_norm, which cannot be split"


def _sharers(parameter: nn.Parameter, model: nn.Module) -> list[str]:
    """The names of the modules that have `parameter` as their own."""
    return [name for name, module in model.named_modules() if any(p is parameter for p in module._parameters.values())]


def _split(name: str, parameters: Mapping[str, Dims], model: nn.Module, problems: list[str]) -> Split | None:
    module = model.get_submodule(name)
    weight, bias = parameters.get("weight"), parameters.get("bias")
    split = None if weight is None or TENSOR not in weight else _BY_WEIGHT[type(module)][weight]
    if bias is None:
        return split
    implied: Dims = (TENSOR,) if split is Split.OUTPUTS else (None,)
    if bias != implied:
        problems.append(f"the bias of {name!r} goes with its weight as {implied}, not {bias}: leave its rule out")
    return split
