"""What a trial's rules for splitting parameters come to, checked against its model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import Enum
from typing import Final, final

from torch import nn

from mnist_trials.errors import TrialError
from mnist_trials.plugin import Rules

_TENSOR: Final = "tensor"
Dims = tuple[str | None, ...]


@final
class Split(Enum):
    """How the weight of a Linear or an Embedding is split, by what each rank then computes."""

    OUTPUTS = "outputs"  # some of the output features
    INPUTS = "inputs"  # a summand of the output, from some of the input features or of the vocabulary


_BY_WEIGHT: Final[Mapping[type[nn.Module], Mapping[Dims, Split]]] = {
    nn.Linear: {(_TENSOR, None): Split.OUTPUTS, (None, _TENSOR): Split.INPUTS},
    nn.Embedding: {(None, _TENSOR): Split.OUTPUTS, (_TENSOR, None): Split.INPUTS},
}


def dims_of(module: nn.Module, split: Split) -> dict[str, Dims]:
    """How the parameters of `module`, by their names in it, are split so that it computes as `split` says."""
    weight = next(dims for dims, meaning in _BY_WEIGHT[type(module)].items() if meaning is split)
    if split is Split.INPUTS or getattr(module, "bias", None) is None:
        return {"weight": weight}
    return {"weight": weight, "bias": (_TENSOR,)}


def resolve(rules: Rules, model: nn.Module, ranks: int) -> dict[str, Split]:
    """The modules of `model` that are split over `ranks` ranks, by name.

    Raises:
        TrialError: a rule cannot be followed, or there is none; all reasons are in the text.
    """
    problems: list[str] = []
    if not rules:
        problems.append(
            "there are none, so every slot of the dimension would compute the same. Return rules from "
            "sharding_rules(), or use the slots for data"
        )
    dims = _by_parameter(rules, model, problems)
    by_module: dict[str, dict[str, Dims]] = defaultdict(dict)
    for name, wanted in dims.items():
        module, _, leaf = name.rpartition(".")
        problems += _problems_of(name, wanted, model, ranks)
        by_module[module][leaf] = wanted
    if problems:
        raise TrialError(
            f"mesh.tensor is {ranks}, and the sharding rules do not fit: " + "; ".join(dict.fromkeys(problems)) + "."
        )
    found = {name: _split(name, parameters, model, problems) for name, parameters in by_module.items()}
    if problems:
        raise TrialError(f"mesh.tensor is {ranks}, and the sharding rules do not fit: {'; '.join(problems)}.")
    return {name: split for name, split in found.items() if split is not None}


def _by_parameter(rules: Rules, model: nn.Module, problems: list[str]) -> dict[str, Dims]:
    names = [name for name, _ in model.named_parameters()]
    dims: dict[str, Dims] = {}
    origin: dict[str, str] = {}
    for pattern, wanted in rules.items():
        try:
            matches = [name for name in names if re.fullmatch(pattern, name)]
        except re.error as error:
            problems.append(f"{pattern!r} is no regular expression: {error}")
            continue
        if not matches:
            problems.append(f"{pattern!r} matches no parameter ({_nearest(pattern, names)})")
        for name in matches:
            if name in dims and dims[name] != tuple(wanted):
                problems.append(f"{origin[name]!r} and {pattern!r} both match {name!r} and differ")
            dims[name], origin[name] = tuple(wanted), pattern
    return dims


def _nearest(pattern: str, names: list[str]) -> str:
    near = get_close_matches(pattern.replace("\\", ""), names, n=3, cutoff=0.4) or names[:5]
    return f"there are {', '.join(near)}{', ...' * (len(near) < len(names))}"


def _problems_of(name: str, wanted: Dims, model: nn.Module, ranks: int) -> Iterator[str]:
    parameter = model.get_parameter(name)
    shape = tuple(parameter.shape)
    unknown = [dim for dim in wanted if dim not in (None, _TENSOR)]
    if unknown:
        yield f"{name!r} cannot be split over {unknown[0]!r}: only {_TENSOR!r} and None are known"
    if len(wanted) != len(shape):
        yield f"{name!r} has {len(shape)} dimensions {shape}, its rule {len(wanted)}"
        return
    if wanted.count(_TENSOR) > 1:
        yield f"{name!r} can be split in one dimension only, not as {wanted}"
    for size, dim in zip(shape, wanted, strict=True):
        if dim == _TENSOR and size % ranks:
            yield f"{name!r} {shape} cannot be split evenly: {size} does not divide by {ranks}"
    module = model.get_submodule(name.rpartition(".")[0])
    if _TENSOR in wanted and type(module) not in _BY_WEIGHT:
        yield f"{name!r} belongs to a {type(module).__name__}; only Linear and Embedding can be split"
    if _TENSOR in wanted and len(sharers := _sharers(parameter, model)) > 1:
        yield f"{name!r} is shared by {' and '.join(map(repr, sharers))}; what several modules share stays whole"
    if _TENSOR in wanted and isinstance(module, nn.Embedding) and module.max_norm is not None:
        yield f"{name!r} belongs to an Embedding with max_norm, which cannot be split"


def _sharers(parameter: nn.Parameter, model: nn.Module) -> list[str]:
    """The names of the modules that have `parameter` as their own."""
    return [name for name, module in model.named_modules() if any(p is parameter for p in module._parameters.values())]


def _split(name: str, parameters: Mapping[str, Dims], model: nn.Module, problems: list[str]) -> Split | None:
    module = model.get_submodule(name)
    weight, bias = parameters.get("weight"), parameters.get("bias")
    split = None if weight is None or _TENSOR not in weight else _BY_WEIGHT[type(module)][weight]
    if bias is None:
        return split
    implied: Dims = (_TENSOR,) if split is Split.OUTPUTS else (None,)
    if bias != implied:
        problems.append(f"the bias of {name!r} goes with its weight as {implied}, not {bias}: leave its rule out")
    return split
