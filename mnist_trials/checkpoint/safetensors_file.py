"""Tensors by name as a safetensors file, and which of them share memory.

The format is that of https://github.com/huggingface/safetensors: the length of the header in 8 bytes, the header in
JSON, then the tensors one after another without gaps, wide element types first. It is written and read here and not by
the library because in this way the bytes go between tensors, file and SHA-256 without a copy in between.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from mnist_trials.checkpoint.manifest import FileEntry, View

DTYPES: Final[dict[torch.dtype, str]] = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.int8: "I8",
    torch.uint8: "U8",
}
"""The element types that the format knows, by the names it gives them."""

_ALIGNED: Final = 64  # bytes, as torch aligns what it allocates on the CPU
_BY_NAME: Final = {name: dtype for dtype, name in DTYPES.items()}

RESERVED: Final = "__metadata__"
"""The one name that no tensor can have in the file."""


def storable(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` apart from the autograd graph, with its values laid out in memory (no lazy conjugation or sign).

    Memory shared with other tensors stays shared on CPU and CUDA.

    Raises:
        TypeError: the file format has no place for such a tensor; the text says what to do.
    """
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise TypeError(f"a {type(tensor).__qualname__}: save a plain tensor made from it")
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        raise TypeError(f"a tensor of layout {tensor.layout}: save `.to_dense()` or `.dequantize()` of it")
    if tensor.device.type == "meta":
        raise TypeError("a tensor on the device 'meta', which has no values: save it after it was filled")
    if tensor.dtype not in DTYPES:
        raise TypeError(f"a tensor of {tensor.dtype}: save it as one of {', '.join(map(str, DTYPES))}")
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return tensor if tensor.device.type in ("cpu", "cuda") else tensor.cpu()


def shared(tensors: Mapping[str, torch.Tensor]) -> dict[str, View]:
    """Which of `tensors` (each `storable`) are views into another one of them, and which views.

    The one that is kept is the largest contiguous one; tensors that overlap only in part are nobody's views.
    """
    groups: dict[tuple[torch.device, int, torch.dtype], list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            memory = (tensor.device, tensor.untyped_storage().data_ptr(), tensor.dtype)
            groups.setdefault(memory, []).append(name)
    views: dict[str, View] = {}
    for names in groups.values():
        if len(names) > 1:
            views.update(_views({name: tensors[name] for name in names}))
    return views


def _views(group: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, View]]:
    bases: list[tuple[str, torch.Tensor]] = []
    for name, tensor in sorted(group.items(), key=lambda item: (not item[1].is_contiguous(), -item[1].numel())):
        base = next((base for base in bases if _within(tensor, base[1])), None)
        if base is not None:
            offset = int(tensor.storage_offset() - base[1].storage_offset())
            yield name, View(base[0], offset, tuple(tensor.shape), tensor.stride())
        elif tensor.is_contiguous():
            bases.append((name, tensor))


def _within(tensor: torch.Tensor, base: torch.Tensor) -> bool:
    start = tensor.storage_offset() - base.storage_offset()
    last = start + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start >= 0 and last < base.numel()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> FileEntry:
    """Write `tensors` (each `storable`) to a new file.

    Raises:
        OSError: the file cannot be written.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    digest = hashlib.sha256()
    size = 0
    with path.open("xb") as file:
        for part in _parts(ordered):
            file.write(part)
            digest.update(part)
            size += len(part)
    return FileEntry(size, digest.hexdigest())


def read_tensors(
    content: memoryview, views: Mapping[str, View] | None = None, *, aligned: bool = False
) -> dict[str, torch.Tensor]:
    """The tensors in `content`, which can be written to: they lie in its memory, on the CPU.

    `views` into them are brought back to share their memory. `aligned`: those that do not begin where torch would
    have put them get memory of their own. What is computed with a tensor depends on that in the last bits.

    Raises:
        ValueError: `content` is no such file, or a view does not fit.
    """
    try:
        tensors = _tensors_in(content)
        if aligned:
            tensors = {
                name: tensor.clone() if tensor.data_ptr() % _ALIGNED else tensor for name, tensor in tensors.items()
            }
        for name, view in (views or {}).items():
            tensors[name] = view_of(tensors[view.tensor], view)
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    return tensors


def _tensors_in(content: memoryview) -> dict[str, torch.Tensor]:
    start = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(bytes(content[8:start]))
    entries.pop(RESERVED, None)
    tensors = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = _BY_NAME[entry["dtype"]], [int(size) for size in entry["shape"]]
        first, count = end, math.prod(shape)
        end += count * dtype.itemsize
        if entry["data_offsets"] != [first, end] or min(shape, default=0) < 0:
            raise ValueError(f"the place {entry['data_offsets']} of {name} does not follow from what is before it")
        flat = torch.frombuffer(content, dtype=dtype, count=count, offset=start + first) if count else None
        tensors[name] = torch.empty(shape, dtype=dtype) if flat is None else flat.reshape(shape)
    if start + end != len(content):
        raise ValueError(f"it has {len(content)} bytes, and its header speaks of {start + end}")
    return tensors


def view_of(base: torch.Tensor, view: View) -> torch.Tensor:
    """The view of `base` (contiguous) that `view` describes.

    Raises:
        RuntimeError: it reaches beyond `base`.
    """
    return base.as_strided(view.shape, view.stride, base.storage_offset() + view.offset)


def _header(tensors: Iterable[tuple[str, torch.Tensor]]) -> bytes:
    header: dict[str, Any] = {RESERVED: {"format": "pt"}}
    end = 0
    for name, tensor in tensors:
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    return text + b" " * (-len(text) % 8)


def _parts(tensors: Sequence[tuple[str, torch.Tensor]]) -> Iterator[bytes | memoryview]:
    header = _header(tensors)
    yield len(header).to_bytes(8, "little") + header
    for _, tensor in tensors:
        yield _bytes(tensor)


def _bytes(tensor: torch.Tensor) -> memoryview:
    tensor = tensor.contiguous().cpu()
    # `view` insists on a stride of 1, where a tensor of one element or none may have any.
    flat: Any = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy()
    return memoryview(flat)
