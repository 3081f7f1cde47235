"""Tensors by name as a safetensors file.

The format is that of https://github.com/huggingface/safetensors: the length of the header in 8 bytes, the header in
JSON, then the tensors one after another without gaps, wide element types first. It is written and read here and not by
the library because in this way the bytes go between tensors, file and SHA-256 without a copy in between.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from mnist_trials.checkpoint.manifest import FileEntry, View
from mnist_trials.checkpoint.sharing import view_of
from mnist_trials.plugin import Spread

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


def storable(tensor: torch.Tensor | Spread) -> torch.Tensor | Spread:
    """`tensor` apart from the autograd graph, with its values laid out in memory (no lazy conjugation or sign).

    Memory shared with other tensors stays shared on CPU and CUDA. One that is spread over ranks stays as it is.

    Raises:
        TypeError: the file format has no place for such a tensor; the text says what to do.
    """
    if isinstance(tensor, Spread):
        _require_known(tensor.dtype)
        return tensor
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise TypeError(f"a {type(tensor).__qualname__}: save a plain tensor made from it")
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        raise TypeError(f"a tensor of layout {tensor.layout}: save `.to_dense()` or `.dequantize()` of it")
    if tensor.device.type == "meta":
        raise TypeError("a tensor on the device 'meta', which has no values: save it after it was filled")
    _require_known(tensor.dtype)
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return tensor if tensor.device.type in ("cpu", "cuda") else tensor.cpu()


def _require_known(dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        raise TypeError(f"a tensor of {dtype}: save it as one of {', '.join(map(str, DTYPES))}")


Gather = Callable[[Spread], torch.Tensor]
"""Puts together a tensor that is spread over ranks. What it returns may be overwritten by the next call."""


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor | Spread], gather: Gather) -> FileEntry:
    """Write `tensors` (each `storable`) to a new file; those spread over ranks are gathered one after the other.

    Raises:
        OSError: the file cannot be written.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    digest = hashlib.sha256()
    size = 0
    with path.open("xb") as file:
        for part in _parts(ordered, gather):
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


def _header(tensors: Iterable[tuple[str, torch.Tensor | Spread]]) -> bytes:
    header: dict[str, Any] = {RESERVED: {"format": "pt"}}
    end = 0
    for name, tensor in tensors:
        start, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    return text + b" " * (-len(text) % 8)


def _parts(tensors: Sequence[tuple[str, torch.Tensor | Spread]], gather: Gather) -> Iterator[bytes | memoryview]:
    header = _header(tensors)
    yield len(header).to_bytes(8, "little") + header
    for _, tensor in tensors:
        yield _bytes(gather(tensor) if isinstance(tensor, Spread) else tensor)


def _bytes(tensor: torch.Tensor) -> memoryview:
    tensor = tensor.contiguous().cpu()
    # `view` insists on a stride of 1, where a tensor of one element or none may have any.
    flat: Any = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy()
    return memoryview(flat)
