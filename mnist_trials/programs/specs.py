"""What a program takes and gives: named tensors of one shape and one dtype."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, final

import torch
from typing_extensions import override

from mnist_trials.errors import ProgramError

_NARROWED: Final = {torch.int64: torch.int32, torch.float64: torch.float32}
"""What is taken for what: where a program wants the second, the first is converted, if its values fit."""


@final
@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and dtype of a tensor; dense, rows first, unless `stride` says otherwise."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    stride: tuple[int, ...] | None = None

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorSpec:
        """That of `tensor`."""
        stride = None if tensor.is_contiguous() else tuple(tensor.stride())
        return cls(tuple(tensor.shape), tensor.dtype, stride)

    def empty(self, device: torch.device) -> torch.Tensor:
        """A tensor of this kind, whose values are whatever was there."""
        if self.stride is None:
            return torch.empty(self.shape, dtype=self.dtype, device=device)
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=device)

    def fits(self, tensor: torch.Tensor) -> bool:
        """Whether a program may be given `tensor` as it is, but for its device."""
        if tensor.dtype is not self.dtype or tuple(tensor.shape) != self.shape:
            return False
        return tensor.is_contiguous() if self.stride is None else tuple(tensor.stride()) == self.stride

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values."""
        stride = None if self.stride is None else list(self.stride)
        return {"shape": list(self.shape), "dtype": str(self.dtype).removeprefix("torch."), "stride": stride}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TensorSpec:
        """What `to_json` gave.

        Raises:
            ValueError: it is no such document.
        """
        dtype = getattr(torch, str(document["dtype"]), None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"there is no dtype {document['dtype']!r}")
        stride = document["stride"]
        return cls(tuple(document["shape"]), dtype, None if stride is None else tuple(stride))

    @override
    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


def named(
    program: str, wanted: Mapping[str, Any], positional: Sequence[Any], by_name: Mapping[str, Any]
) -> dict[str, Any]:
    """The values given in order and by name, by name, in the order of `wanted`; some may be missing.

    Raises:
        ProgramError: there are too many, or a name is unknown or given twice.
    """
    names = list(wanted)
    if len(positional) > len(names):
        raise ProgramError(
            f"The program '{program}' takes {len(names)} inputs ({', '.join(names)}); {len(positional)} were given."
        )
    values = dict(zip(names, positional, strict=False))
    for name, value in by_name.items():
        if name not in wanted:
            close = get_close_matches(name, names, 1)
            meant = f" Did you mean '{close[0]}'?" if close else ""
            raise ProgramError(f"The program '{program}' has no input '{name}'.{meant} It has: {', '.join(names)}.")
        if name in values:
            raise ProgramError(f"The program '{program}' was given its input '{name}' twice: in order and by name.")
        values[name] = value
    return values


def require_all(program: str, wanted: Mapping[str, TensorSpec], given: Mapping[str, Any]) -> None:
    """See that nothing is missing.

    Raises:
        ProgramError: something is; the text says what it would have to be.
    """
    if missing := [f"'{name}' ({spec})" for name, spec in wanted.items() if name not in given]:
        raise ProgramError(f"The program '{program}' was not given {' and '.join(missing)}.")


def received(program: str, name: str, value: Any, spec: TensorSpec) -> torch.Tensor:
    """`value`, a tensor, an array or a number, as the input `name` of a program, still where it is.

    Where float32 is wanted float64 is taken, and int64 for int32, as accelerators that know 32 bits only have it.

    Raises:
        ProgramError: it has another shape or dtype, or a number in it does not fit into 32 bits.
    """
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ProgramError(
            f"The input '{name}' of the program '{program}' is {spec}, and {type(value).__name__} is no tensor."
        ) from error
    if not isinstance(value, torch.Tensor) and not spec.shape and tensor.numel() == 1:
        tensor = tensor.to(spec.dtype)  # a plain number has no dtype of its own
    if tuple(tensor.shape) != spec.shape or tensor.dtype not in (spec.dtype, _wide(spec.dtype)):
        raise ProgramError(
            f"The input '{name}' of the program '{program}' is {spec}; it was given {TensorSpec.of(tensor)}. A program "
            "is captured for one shape: capture another one for this."
        )
    if tensor.dtype is not spec.dtype:
        tensor = _narrowed(program, name, tensor, spec.dtype)
    return tensor if spec.fits(tensor) else spec.empty(tensor.device).copy_(tensor)


def _wide(dtype: torch.dtype) -> torch.dtype | None:
    return next((wide for wide, narrow in _NARROWED.items() if narrow is dtype), None)


def _narrowed(program: str, name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if dtype is torch.int32 and tensor.numel() and tensor.device.type == "cpu":
        limits, low, high = torch.iinfo(dtype), int(tensor.min()), int(tensor.max())
        if low < limits.min or high > limits.max:
            raise ProgramError(
                f"The input '{name}' of the program '{program}' is int32, and {low if low < limits.min else high}, "
                "which is in the int64 tensor that it was given, does not fit."
            )
    return tensor.to(dtype)
