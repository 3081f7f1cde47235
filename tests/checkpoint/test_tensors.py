import collections
import json
import math
import random
from collections import Counter, OrderedDict
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load

from mnist_trials.checkpoint import Gathering
from mnist_trials.checkpoint.safetensors_file import DTYPES, read_tensors, write_tensors
from mnist_trials.checkpoint.tensors import decode, encode
from mnist_trials.errors import CheckpointError

NOTHING_SPREAD = Gathering({}, None).whole


def through_files(state: dict[Any, Any], folder: Path) -> Any:
    document, tensors = encode(state)
    text = json.dumps(document, allow_nan=False)
    path = folder / "tensors"
    path.unlink(missing_ok=True)
    write_tensors(path, tensors, NOTHING_SPREAD)
    return decode(json.loads(text), read_tensors(memoryview(bytearray(path.read_bytes()))))


def fingerprint(value: Any) -> Any:
    """Equal for two values that are the same in type, value and order, NaN included."""
    if isinstance(value, torch.Tensor):
        flat = torch.empty(value.shape, dtype=value.dtype).copy_(value).reshape(-1)
        content = flat.view(torch.uint8).numpy().tobytes()
        return ("tensor", value.dtype, tuple(value.shape), content)
    if isinstance(value, np.ndarray | np.generic):
        return (type(value), value.dtype, value.shape, value.tobytes())
    if isinstance(value, dict):
        return (type(value), [(fingerprint(key), fingerprint(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value), [fingerprint(item) for item in value])
    return (type(value), "nan" if isinstance(value, float) and math.isnan(value) else repr(value))


def made_tensor(dtype: torch.dtype, shape: tuple[int, ...], content: bytes, layout: str) -> torch.Tensor:
    count = math.prod(shape) * dtype.itemsize
    raw = (content * (count // max(len(content), 1) + 1))[:count] if content else bytes(count)
    if dtype is torch.bool:
        raw = bytes(byte & 1 for byte in raw)
    flat = torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(shape)
    if layout == "transposed" and tensor.dim() > 1:
        return tensor.transpose(0, -1)
    if layout == "strided" and tensor.dim() > 0:
        return tensor[::2]
    return tensor


tensors = st.builds(
    made_tensor,
    st.sampled_from(sorted(DTYPES, key=str)),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.binary(max_size=24),
    st.sampled_from(["plain", "transposed", "strided"]),
)
dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.datetime64_dtypes(max_period="s"),
    hnp.unicode_string_dtypes(max_len=3),
    hnp.byte_string_dtypes(max_len=3),
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
any_text = st.text(st.characters(exclude_categories=[])) | st.sampled_from(["$tuple", "$", "\ud83d\ude00", "\x00"])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1]),
    st.floats(),
    any_text,
    st.binary(),
    tensors,
    arrays,
    arrays.map(lambda array: array.reshape(-1)[0] if array.size else np.float64("nan")),
)
keys = any_text | st.integers()
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(state=st.dictionaries(keys, values, max_size=4))
def test_every_state_comes_back_exactly(state: dict[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert fingerprint(through_files(state, folder)) == fingerprint(state)


@settings(deadline=None, max_examples=100)
@given(named=st.dictionaries(st.text(max_size=5).filter(lambda name: name != "__metadata__"), tensors, max_size=5))
def test_the_safetensors_library_reads_what_is_written(
    named: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "named"
    path.unlink(missing_ok=True)
    entry = write_tensors(path, named, NOTHING_SPREAD)
    assert entry.size == path.stat().st_size
    assert (entry.size - sum(tensor.numel() * tensor.element_size() for tensor in named.values())) % 8 == 0
    assert {name: fingerprint(tensor) for name, tensor in load(path.read_bytes()).items()} == {
        name: fingerprint(tensor) for name, tensor in named.items()
    }


def test_every_element_type_of_the_safetensors_library_is_known() -> None:
    from safetensors.torch import _TYPES

    assert {name: dtype for dtype, name in DTYPES.items()} == _TYPES


def test_integers_of_any_size_come_back(tmp_path: Path) -> None:
    state = {"big": 10**5000, "small": -(10**5000), "edge": 2**63}
    assert through_files(state, tmp_path) == state


def test_generators_go_on_where_they_were(tmp_path: Path) -> None:
    twister, generator = random.Random(3), np.random.default_rng(3)
    legacy = np.random.RandomState(3)
    state = {"python": twister.getstate(), "numpy": generator.bit_generator.state, "legacy": legacy.get_state()}
    expected = [twister.random(), generator.random(), legacy.rand()]
    restored = through_files({**state, "torch": torch.get_rng_state()}, tmp_path)
    twister.setstate(restored["python"])
    generator.bit_generator.state = restored["numpy"]
    legacy.set_state(restored["legacy"])
    assert [twister.random(), generator.random(), legacy.rand()] == expected
    assert torch.equal(restored["torch"], torch.get_rng_state())


def test_optimizers_and_schedulers_come_back(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedulers = [
        torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 2, 3]),  # keeps a Counter
        torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),  # keeps an infinity
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5),
    ]
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "schedulers": [each.state_dict() for each in schedulers]}
    restored = through_files(state, tmp_path)
    assert fingerprint(restored) == fingerprint(state)
    assert isinstance(restored["schedulers"][0]["milestones"], Counter)


def test_tensors_lie_in_the_file_under_their_dotted_path() -> None:
    _, tensors = encode({"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "list": [(torch.ones(3),)]})
    assert sorted(tensors) == ["list.0.0", "optimizer.state.0.exp_avg"]


def test_paths_that_look_alike_are_kept_apart(tmp_path: Path) -> None:
    state = {
        "a.b": torch.tensor(1),
        "a": {"b": torch.tensor(2)},
        0: torch.tensor(3),
        "0": torch.tensor(4),
        "__metadata__": torch.tensor(5),
        "\ud800": torch.tensor(6),
        "\\ud800": torch.tensor(7),
        "": torch.tensor(8),
    }
    assert fingerprint(through_files(state, tmp_path)) == fingerprint(state)


def test_tensors_that_share_memory_share_it_again(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"slice": base[1:, 2], "base": base, "same": base, "turned": base.t(), "flat": base.view(-1)}
    document, tensors = encode(state)
    assert sorted(tensors) == ["base"]
    restored = decode(document, {"base": base.clone()})
    restored["base"].mul_(2).add_(1)
    for name, tensor in restored.items():
        assert torch.equal(tensor, state[name] * 2 + 1), name
        assert tensor.untyped_storage().data_ptr() == restored["base"].untyped_storage().data_ptr()
    assert fingerprint(through_files(state, tmp_path)) == fingerprint(state)


def test_views_that_do_not_hold_one_another_come_back_with_their_own_values(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "upper": base[:2],
        "lower": base[1:],
        "columns": base[:, :2],
        "bits": base.view(torch.int32),
        "expanded": torch.ones(1).expand(5),
        "of another base": torch.arange(24.0)[::2],
    }
    restored = through_files(state, tmp_path)
    assert fingerprint(restored) == fingerprint(state)


def test_an_array_and_a_tensor_of_the_same_memory_share_it_again(tmp_path: Path) -> None:
    array = np.arange(4.0)
    restored = through_files({"array": array, "tensor": torch.from_numpy(array)}, tmp_path)
    restored["tensor"][0] = 7
    assert restored["array"][0] == 7


def test_restored_tensors_and_arrays_can_be_written_to(tmp_path: Path) -> None:
    frozen = np.arange(3)
    frozen.flags.writeable = False
    state = {"tensor": torch.ones(2), "array": frozen, "text": np.array(["a"]), "turned": np.ones((2, 3)).T[::-1]}
    restored = through_files(state, tmp_path)
    restored["tensor"] += 1
    restored["array"] += 1
    restored["text"][0] = "b"
    restored["turned"] += 1
    assert restored["array"].tolist() == [1, 2, 3]


def test_parameters_come_back_as_plain_tensors_without_gradients(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    restored = through_files({"weight": weight, "graph": weight * 2, "lazy": torch.tensor([1 + 2j]).conj()}, tmp_path)
    assert type(restored["weight"]) is torch.Tensor
    assert not restored["weight"].requires_grad
    assert not restored["graph"].requires_grad
    assert restored["lazy"].tolist() == [1 - 2j]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_tensors_on_a_cuda_device_come_back_on_the_cpu(tmp_path: Path) -> None:
    base = torch.arange(6.0, device="cuda").reshape(2, 3)
    state = {"base": base, "turned": base.t(), "half": base.to(torch.bfloat16), "scalar": base[0, 1].clone()}
    restored = through_files(state, tmp_path)
    assert all(tensor.device.type == "cpu" for tensor in restored.values())
    assert fingerprint(restored) == fingerprint({name: tensor.cpu() for name, tensor in state.items()})
    restored["base"][0, 0] = 9
    assert restored["turned"][0, 0] == 9


class Point(NamedTuple):
    x: int


class Colour(IntEnum):
    RED = 1


def contains_itself() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1}, "of type builtins.set: save a sorted list of what is in it"),
        (frozenset({1}), "of type builtins.frozenset: save a sorted list"),
        (Point(1), "Point: save it as a plain tuple"),
        (torch.Size([1]), "of type torch.Size: save it as a plain tuple"),
        (Colour.RED, "Colour: save it as a plain int"),
        (collections.defaultdict(int), "of type collections.defaultdict: save it as a plain dict"),
        (np.ma.masked_array([1]), "MaskedArray: save it as a plain ndarray"),
        (torch.float32, "of type torch.dtype: save what it takes to make it again"),
        (len, "of type builtins.builtin_function_or_method: save what it takes"),
        (1 + 2j, "of type builtins.complex: save what it takes"),
        (bytearray(b"x"), "of type builtins.bytearray"),
        ({True: 1}, "a dict with the key True: use keys of str or int"),
        ({1.5: 1}, "a dict with the key 1.5"),
        ({(1, 2): 1}, "a dict with the key (1, 2)"),
        (contains_itself(), "nested more than 200 deep: does it contain itself?"),
        (torch.ones(2).to_sparse(), "a tensor of layout torch.sparse_coo: save `.to_dense()`"),
        (torch.ones(1, device="meta"), "a tensor on the device 'meta'"),
        (torch.ones(1, dtype=torch.complex128), "a tensor of torch.complex128: save it as one of"),
        (torch.nn.parameter.UninitializedParameter(), "a UninitializedParameter: save a plain tensor"),
        (np.array([object()]), "a numpy value of dtype object: save it as numbers, text or bytes"),
        (np.zeros(1, dtype=[("a", "i4")]), "a numpy value of dtype [('a', '<i4')]"),
        (np.zeros(1, dtype=[("a", "i4")])[0], "a numpy value of dtype [('a', '<i4')]"),
    ],
)
def test_anything_else_is_refused_by_its_dotted_path(value: Any, message: str) -> None:
    with pytest.raises(CheckpointError) as error:
        encode({"callbacks": [{}, {"mine": (0, value)}]})
    assert str(error.value).startswith("callbacks.1.mine.1")
    assert " cannot be kept in a checkpoint: it is " in str(error.value)
    assert message in str(error.value)


def test_a_state_that_is_refused_itself_is_said_so() -> None:
    with pytest.raises(CheckpointError, match=r"^The state itself cannot be kept in a checkpoint: it is a dict with"):
        encode({None: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "document",
    [
        {"$unknown": 1},
        {"$tensor": {"tensor": "absent"}},
        {"$tensor": {"tensor": "a", "offset": 0, "shape": [99], "stride": [1]}},
        {"$tensor": {"tensor": "a", "offset": 0}},
        {"$int": "x"},
        {"$int": 3},
        {"$float": "x"},
        {"$bytes": 1},
        {"$tuple": 3},
        {"$dict": {"kind": "set", "items": []}},
        {"$dict": []},
        {"$scalar": {"dtype": "<f4", "hex": "00"}},
        {"$scalar": {"dtype": "O", "hex": "0000000000000000"}},
        {"$raw": {"at": {"tensor": "a"}, "dtype": "O", "shape": [1]}},
    ],
)
def test_a_document_that_was_not_encoded_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(document, {"a": torch.ones(4)})
