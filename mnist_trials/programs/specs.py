"""What a program takes and gives: named tensors of one shape and one dtype."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def taken(
    program: str,
    wanted: Mapping[str, TensorSpec],
    settings: Iterable[str],
    positional: Sequence[Any],
    by_name: Mapping[str, Any],
) -> dict[str, torch.Tensor]:
    """The values given in order and by name as a program takes them, by name, still where they are.

    Those in `settings` may be missing. A value is a tensor, an array or a number. Where float32 is wanted float64 is
    taken, and int64 for int32, as accelerators that know 32 bits only have it.

    Raises:
        ProgramError: something is missing, too much, or of another shape or dtype, or a number in it does not fit into
            32 bits; the text lists all of it.
    """
    names, wrong = list(wanted), list[str]()
    if len(positional) > len(names):
        wrong.append(f"it takes {len(names)} inputs ({', '.join(names)}), and {len(positional)} were given")
    values = dict(zip(names, positional, strict=False))
    for name, value in by_name.items():
        if name not in wanted:
            close = get_close_matches(name, names, 1)
            meant = f" (did you mean '{close[0]}'?)" if close else ""
            wrong.append(f"it has no input '{name}'{meant}, it has {', '.join(names)}")
        elif name in values:
            wrong.append(f"its input '{name}' was given twice, in order and by name")
        else:
            values[name] = value
    optional = set(settings)
    missing = [name for name in names if name not in values and name not in optional]
    wrong += [f"its input '{name}' ({wanted[name]}) was not given" for name in missing]
    tensors: dict[str, torch.Tensor] = {}
    for name, value in values.items():
        try:
            tensors[name] = _received(value, wanted[name])
        except ValueError as error:
            wrong.append(f"its input '{name}' is {wanted[name]}, and {error}")
    if wrong:
        raise ProgramError(f"The program '{program}' cannot be run on this: {'; '.join(wrong)}.")
    return tensors


def _received(value: Any, spec: TensorSpec) -> torch.Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"it was given {type(value).__name__}, which is no tensor") from error
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise ValueError("it was given a tensor that is sparse, quantized or without values: give it a dense one")
    if not isinstance(value, torch.Tensor) and not spec.shape and tensor.numel() == 1:
        tensor = tensor.to(spec.dtype)  # a plain number has no dtype of its own
    if tensor.dtype not in (spec.dtype, _wide(spec.dtype)):
        raise ValueError(f"it was given {TensorSpec.of(tensor)}: convert it, with .to({spec.dtype})")
    if tuple(tensor.shape) != spec.shape:
        raise ValueError(
            f"it was given {TensorSpec.of(tensor)}: a program is captured for one shape, capture another one for this"
        )
    if tensor.dtype is not spec.dtype:
        tensor = _narrowed(tensor, spec.dtype)
    return tensor if spec.fits(tensor) else spec.empty(tensor.device).copy_(tensor)


def device_of(device: torch.device | str) -> torch.device:
    """`device`, of a machine that has it.

    Raises:
        ProgramError: there is no such device, or not here.
    """
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ProgramError(f"There is no device {device!r}. A program is for 'cpu', 'cuda' or 'cuda:N'.") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ProgramError(
            f"The device '{device}' is not here: torch sees {torch.cuda.device_count()} CUDA devices. A program that "
            "is captured for 'cpu' can be attached to 'cuda' where there is one."
        )
    return place


def _wide(dtype: torch.dtype) -> torch.dtype | None:
    return next((wide for wide, narrow in _NARROWED.items() if narrow is dtype), None)


def _narrowed(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if dtype is torch.int32 and tensor.numel() and tensor.device.type == "cpu":
        limits, low, high = torch.iinfo(dtype), int(tensor.min()), int(tensor.max())
        if low < limits.min or high > limits.max:
            raise ValueError(
                f"{low if low < limits.min else high}, which is in the int64 tensor that it was given, does not fit"
            )
    return tensor.to(dtype)
