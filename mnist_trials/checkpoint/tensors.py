"""Nested state as JSON and tensors, and back again, exactly.

`encode` takes a state apart: tensors and arrays are taken out under their dotted path, the rest becomes strict JSON.
`decode` puts it together again. What may be in a state:

- None, bool, int of any size, float (NaN and infinities too), str, bytes;
- list, tuple, dict, OrderedDict and Counter, with keys of str and int;
- torch tensors of every type that a safetensors file holds, of any shape, stride and device; they come back on the
  CPU, without gradients, as plain tensors. Tensors that are the same memory come back as the same memory, where one of
  them is contiguous and holds the others whole;
- numpy arrays and scalars, but for structured ones and Python objects;
- a `Spread`, which comes back as a tensor, whole.

Anything else is refused by its dotted path. In JSON, a map with a single key that begins with `$` is a value that
JSON does not know, such as `{"$tuple": [1, 2]}`; every other value stands for itself.
"""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, final

import numpy as np
import torch

from mnist_trials.checkpoint.manifest import View
from mnist_trials.checkpoint.safetensors_file import RESERVED, storable
from mnist_trials.checkpoint.sharing import shared, view_of
from mnist_trials.errors import CheckpointError
from mnist_trials.plugin import Spread

_DEEPEST: Final = 200
_JSON_INT: Final = 1 << 63
_DICTS: Final[dict[str, type[dict[Any, Any]]]] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
# Of the arrays that safetensors has no type for, those whose bytes and `dtype.str` say all there is.
_RAW_KINDS: Final = "biufcmMSU"
_TENSOR_ARRAYS: Final = frozenset(
    np.dtype(kind)
    for kind in (
        *(np.bool_, np.float16, np.float32, np.float64, np.complex64),
        *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    )
)


def encode(state: Mapping[str, Any]) -> tuple[Any, dict[str, torch.Tensor | Spread]]:
    """`state` as strict JSON, and the tensors it refers to by name; they may share memory with those in `state`.

    Raises:
        CheckpointError: there is something in it that a checkpoint cannot hold; the text names it by its dotted path.
    """
    encoder = _Encoder()
    document = encoder.encode(state)
    views = shared(encoder.tensors)
    for name, view in views.items():
        encoder.places[name].update(asdict(view))
        del encoder.tensors[name]
    return document, encoder.tensors


def decode(document: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The state behind `encode`'s document and tensors; it shares memory with `tensors`.

    Raises:
        ValueError: the document is not one of `encode`'s, or does not fit the tensors.
    """
    try:
        return _decode(document, tensors)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


@final
class _Encoder:
    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor | Spread] = {}
        self.places: dict[str, dict[str, Any]] = {}  # name of a tensor to where the document refers to it
        self._path: list[str] = []
        self._by_type: dict[type, Callable[[Any], Any]] = {
            type(None): _itself,
            bool: _itself,
            int: _encode_int,
            float: _encode_float,
            str: _encode_str,
            bytes: lambda value: {"$bytes": base64.b64encode(value).decode("ascii")},
            list: self._encode_items,
            tuple: lambda value: {"$tuple": self._encode_items(value)},
            dict: self._encode_dict,
            OrderedDict: self._encode_dict,
            Counter: self._encode_dict,
            np.ndarray: self._encode_array,
        }

    def encode(self, value: Any) -> Any:
        by_type = self._by_type.get(type(value))
        if by_type is not None:
            return by_type(value)
        if isinstance(value, torch.Tensor | Spread):
            return {"$tensor": self._put(value)}
        if isinstance(value, np.generic):
            return self._encode_scalar(value)
        raise self._refuse(f"of type {type(value).__module__}.{type(value).__qualname__}: {_advice(value)}")

    def _encode_items(self, values: Sequence[Any]) -> list[Any]:
        return [self._encode_at(str(index), value) for index, value in enumerate(values)]

    def _encode_at(self, key: str, value: Any) -> Any:
        if len(self._path) == _DEEPEST:
            raise self._refuse(f"nested more than {_DEEPEST} deep: does it contain itself? Save a flatter form of it")
        self._path.append(key)
        encoded = self.encode(value)
        self._path.pop()
        return encoded

    def _encode_dict(self, values: dict[Any, Any]) -> Any:
        for key in values:
            if type(key) not in (str, int):
                raise self._refuse(f"a dict with the key {key!r}: use keys of str or int")
        items = [(key, self._encode_at(str(key), value)) for key, value in values.items()]
        kind = type(values).__name__
        if kind == "dict" and all(_plain_key(key) for key in values):
            return dict(items)
        return {"$dict": {"kind": kind, "items": [[self.encode(key), value] for key, value in items]}}

    def _encode_array(self, value: np.ndarray[Any, Any]) -> Any:
        if value.dtype in _TENSOR_ARRAYS:
            return {"$array": self._put(torch.from_numpy(_plain_array(value)))}
        self._require_raw(value.dtype)
        content = bytearray(value.tobytes())
        at = self._put(torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8))
        return {"$raw": {"at": at, "dtype": value.dtype.str, "shape": list(value.shape)}}

    def _encode_scalar(self, value: np.generic) -> Any:
        self._require_raw(value.dtype)
        return {"$scalar": {"dtype": value.dtype.str, "hex": value.tobytes().hex()}}

    def _require_raw(self, dtype: np.dtype[Any]) -> None:
        if dtype.kind not in _RAW_KINDS or np.dtype(dtype.str) != dtype:  # the latter: structured ones and metadata
            raise self._refuse(f"a numpy value of dtype {dtype}: save it as numbers, text or bytes")

    def _put(self, tensor: torch.Tensor | Spread) -> dict[str, Any]:
        try:
            stored = storable(tensor)
        except TypeError as error:
            raise self._refuse(str(error)) from error
        path = ".".join(self._path).encode("utf-8", "backslashreplace").decode("utf-8")
        name = path
        while name in self.tensors or name == RESERVED:
            name = f"{path}#{len(self.tensors)}"
        self.tensors[name] = stored
        self.places[name] = {"tensor": name}
        return self.places[name]

    def _refuse(self, what: str) -> CheckpointError:
        path = ".".join(self._path) or "The state itself"
        return CheckpointError(f"{path} cannot be kept in a checkpoint: it is {what}.")


def _decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (key, content), *_ = value.items()
        if key.startswith("$"):
            return _DECODERS[key](content, tensors)
    return {key: _decode(item, tensors) for key, item in value.items()}


def _decode_dict(content: Any, tensors: Mapping[str, torch.Tensor]) -> dict[Any, Any]:
    items = [(_decode(key, tensors), _decode(value, tensors)) for key, value in content["items"]]
    return _DICTS[content["kind"]](dict(items))


def _decode_tensor(place: Any, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tensor = tensors[place["tensor"]]
    return tensor if len(place) == 1 else view_of(tensor, View.from_json(place))


def _decode_raw(content: Any, tensors: Mapping[str, torch.Tensor]) -> np.ndarray[Any, Any]:
    buffer = bytearray(_decode_tensor(content["at"], tensors).numpy())
    return np.ndarray(tuple(content["shape"]), _raw_dtype(content["dtype"]), buffer)


def _decode_scalar(content: Any, _tensors: Mapping[str, torch.Tensor]) -> np.generic:
    scalar: Any = np.ndarray((), _raw_dtype(content["dtype"]), bytes.fromhex(content["hex"]))
    item: np.generic = scalar[()]
    return item


def _raw_dtype(name: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in _RAW_KINDS:  # an object's bytes would be an address
        raise ValueError(f"an array of dtype {name}")
    return dtype


_Decoder = Callable[[Any, Mapping[str, torch.Tensor]], Any]
_DECODERS: Final[dict[str, _Decoder]] = {
    "$int": lambda content, _: int(content, 16),
    "$float": lambda content, _: float(content),
    "$str": lambda content, _: base64.b64decode(content).decode("utf-8", "surrogatepass"),
    "$bytes": lambda content, _: base64.b64decode(content),
    "$tuple": lambda content, tensors: tuple(_decode(item, tensors) for item in content),
    "$dict": _decode_dict,
    "$tensor": _decode_tensor,
    "$array": lambda content, tensors: _decode_tensor(content, tensors).numpy(),
    "$raw": _decode_raw,
    "$scalar": _decode_scalar,
}


def _itself(value: Any) -> Any:
    return value


def _encode_int(value: int) -> Any:
    return value if -_JSON_INT <= value < _JSON_INT else {"$int": hex(value)}


def _encode_float(value: float) -> Any:
    return value if math.isfinite(value) else {"$float": str(value)}


def _encode_str(value: str) -> Any:
    return value if _is_unicode(value) else {"$str": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}


def _plain_key(key: Any) -> bool:
    return isinstance(key, str) and not key.startswith("$") and _is_unicode(key)


def _is_unicode(text: str) -> bool:
    """Whether `text` is without lone halves of surrogate pairs, which JSON would join."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain_array(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`value` as torch takes it without a warning: writable, without gaps."""
    return value if value.flags.writeable and value.flags.c_contiguous else value.copy(order="C")


def _advice(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return "save a sorted list of what is in it"
    plain = next((base for base in type(value).__mro__ if base in _PLAIN), None)
    if plain is not None:
        return f"save it as a plain {plain.__name__}"
    return "save what it takes to make it again: numbers, text, tensors, lists and dicts"


_PLAIN: Final = (tuple, list, dict, int, float, str, bytes, np.ndarray)
