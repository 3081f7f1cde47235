from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import mnist_trials as mt
from mnist_trials.errors import ProgramError

pytestmark = pytest.mark.usefixtures("no_compiler")

IMAGES, LABELS = mt.TensorSpec((8, 12)), mt.TensorSpec((8,), torch.int64)


def network(seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(12, 6), torch.nn.GELU(), torch.nn.Linear(6, 3))


def batches(count: int, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 12, generator=generator), torch.randint(0, 3, (size,), generator=generator))
        for _ in range(count)
    ]


def loss_of(model: torch.nn.Module) -> Any:
    def train(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(model(images), labels)

    return train


def training(model: torch.nn.Module, **options: Any) -> mt.Program:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return mt.capture(loss_of(model), {"images": IMAGES, "labels": LABELS}, model=model, optimizer=optimizer, **options)


def eagerly(model: torch.nn.Module, count: int, lr: float = 0.1) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for images, labels in batches(count):
        loss = loss_of(model)(images, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_a_session_learns_as_a_loop_does_and_the_weights_come_back_at_its_end() -> None:
    program = training(network())
    before = program.weights
    with program.attach() as session:
        losses = [session.run(images, labels) for images, labels in batches(20)]
    model = network()
    assert [float(loss) for loss in losses] == pytest.approx(eagerly(model, 20), abs=1e-6)
    for name, value in model.state_dict().items():
        assert torch.allclose(program.weights[name], value, atol=1e-6)
        assert not torch.equal(before[name], value)


def test_the_state_stays_where_it_is_and_is_changed_in_place() -> None:
    program = training(network())
    with program.attach() as session:
        places = {name: tensor.data_ptr() for name, tensor in session.state.items()}
        values = {name: tensor.clone() for name, tensor in session.state.items()}
        for images, labels in batches(3):
            session.run(images, labels)
        assert {name: tensor.data_ptr() for name, tensor in session.state.items()} == places
        assert all(not torch.equal(values[name], tensor) for name, tensor in session.state.items())
    assert set(values) == {*program.weights, *(f"{name}/momentum_buffer" for name in program.weights)}


def test_the_model_that_was_captured_is_left_alone() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with training(model).attach() as session:
        session.run(*batches(1)[0])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_streamed_batches_give_what_single_runs_give_and_the_next_one_is_fetched_ahead() -> None:
    single, streamed = training(network()), training(network())
    with single.attach() as session:
        expected = [float(session.run(*batch)) for batch in batches(5)]
    fetched: list[int] = []

    def reading() -> Iterator[Any]:
        for number, (images, labels) in enumerate(batches(5)):
            fetched.append(number)
            yield (images, labels) if number % 2 else {"labels": labels, "images": images}

    losses = []
    with streamed.attach() as session:
        for done, loss in enumerate(session.stream(reading())):
            losses.append(float(loss))
            assert fetched[-1] >= min(done + 1, 4)
    assert losses == expected


def test_the_learning_rate_is_a_setting_that_needs_no_new_program() -> None:
    program = training(network())
    assert program.settings == {"learning_rate": 0.1}
    assert "learning_rate" not in program.inputs
    with program.attach() as session:
        session.settings["learning_rate"] = 0.0
        session.run(*batches(1)[0])
        session.run(*batches(1)[0], learning_rate=0.0)
        unchanged = {name: session.state[name].clone() for name in network().state_dict()}
        session.settings["learning_rate"] = 0.5
        session.run(*batches(1)[0])
        assert all(torch.equal(value, unchanged[name]) for name, value in network().state_dict().items())
        assert all(not torch.equal(session.state[name], value) for name, value in unchanged.items())


@pytest.mark.parametrize(
    ("inputs", "by_name", "said"),
    [
        ((torch.zeros(8, 12),), {}, "'labels' \\(int64 \\[8\\]\\) was not given"),
        (
            (torch.zeros(7, 12), torch.zeros(8).long()),
            {},
            "'images' is float32 \\[8, 12\\], .* float32 \\[7, 12\\]: .* one shape",
        ),
        ((torch.zeros(8, 12), torch.zeros(8).int()), {}, "'labels' is int64 \\[8\\], .* int32 \\[8\\]: convert it"),
        ((torch.zeros(8, 12),), {"label": 1}, "no input 'label' \\(did you mean 'labels'\\?\\), it has images, labels"),
        ((torch.zeros(8, 12), 0, 0, 0), {}, "takes 3 inputs"),
        ((torch.zeros(8, 12),), {"images": 0}, "'images' was given twice"),
        (("words", torch.zeros(8).long()), {}, "given str, which is no tensor"),
        ((torch.zeros(8, 12).to_sparse(), torch.zeros(8).long()), {}, "'images' .* sparse, .* give it a dense one"),
        ((torch.zeros(7, 12),), {"rate": 1}, "no input 'rate'.*'labels' .* was not given; .*'images' is float32"),
    ],
)
def test_inputs_are_checked_and_the_error_says_what_was_expected(
    inputs: tuple[Any, ...], by_name: dict[str, Any], said: str
) -> None:
    with training(network()).attach() as session, pytest.raises(ProgramError, match=said):
        session.run(*inputs, **by_name)


def test_wide_numbers_are_taken_where_narrow_ones_are_wanted_if_they_fit() -> None:
    specs = {"values": mt.TensorSpec((2,)), "rows": mt.TensorSpec((2,), torch.int32)}
    program = mt.capture(lambda values, rows: values * rows, specs)
    with program.attach() as session:
        assert session.run(np.array([0.5, 1.5]), np.array([2, 4])).tolist() == [1.0, 6.0]  # type: ignore[union-attr]
        with pytest.raises(ProgramError, match="3000000000, which is in the int64 tensor"):
            session.run(torch.zeros(2), torch.tensor([1, 3_000_000_000]))


def test_weights_are_handed_over_by_name() -> None:
    train = training(network())
    test = mt.capture(
        network(seed=5), {"input": mt.TensorSpec((20, 12))}, model=(model := network(seed=5)), name="test"
    )
    assert test.name == "test"
    with train.attach() as session:
        session.run(*batches(1)[0])
    test.load_weights(train.weights)
    model.load_state_dict(train.weights)
    assert {name: torch.equal(value, train.weights[name]) for name, value in test.weights.items()} == dict.fromkeys(
        train.weights, True
    )


def test_weights_that_do_not_fit_are_refused_and_all_of_them_listed() -> None:
    program = training(network())
    before = program.weights
    wrong = {**program.weights, "0.weight": torch.zeros(6, 13), "3.bias": torch.zeros(1)}
    del wrong["2.bias"]
    with pytest.raises(ProgramError) as caught:
        program.load_weights(wrong)
    for said in (
        "'2.bias' is missing",
        "'3.bias' is none",
        "'0.weight' is float32 [6, 13] and should be float32 [6, 12]",
    ):
        assert said in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in program.weights.items())


def test_an_attached_program_cannot_be_attached_or_loaded_again() -> None:
    program = training(network())
    with program.attach() as session:
        for mistake in (program.attach, lambda: program.load_weights(program.weights)):
            with pytest.raises(ProgramError, match="End that `with` block"):
                mistake()
    with pytest.raises(ProgramError, match=r"with program\.attach"):
        session.run(*batches(1)[0])


def test_gradients_are_those_of_autograd_and_nothing_else_is_computed() -> None:
    model = network()
    program = mt.capture(loss_of(model), {"images": IMAGES, "labels": LABELS}, model=model)
    images, labels = batches(1)[0]
    last, first = program.grad(["2.weight"]), program.grad(["0.weight", "images"])
    images.requires_grad_()
    loss_of(model)(images, labels).backward()
    with last.attach() as session:
        found = session.run(images.detach(), labels)
    assert isinstance(found, dict)
    assert list(found) == ["loss", "grad.2.weight"]
    assert torch.allclose(found["grad.2.weight"], model[2].weight.grad, atol=1e-6)  # type: ignore[arg-type]
    with first.attach() as session:
        found = session.run(images.detach(), labels)
    assert isinstance(found, dict)
    assert torch.allclose(found["grad.0.weight"], model[0].weight.grad, atol=1e-6)  # type: ignore[arg-type]
    assert torch.allclose(found["grad.images"], images.grad, atol=1e-6)  # type: ignore[arg-type]
    assert "aten.gelu_backward.default" in first.operations()
    assert "aten.gelu_backward.default" not in last.operations()
    assert last.operations()["aten.mm.default"] == 1  # that weight's own gradient


def test_parts_of_a_model_are_programs_of_their_own_whose_gradients_chain_to_those_of_the_whole() -> None:
    model = network()
    lower, upper = model[:2], model[2]
    images, labels = batches(1)[0]
    hidden_spec = mt.TensorSpec((8, 6))
    end = mt.capture(loss_of(upper), {"images": hidden_spec, "labels": LABELS}, model=upper, name="upper")
    begin = mt.capture(
        lambda images, wanted: {"hidden": (hidden := lower(images)), "loss": (hidden * wanted).sum()},
        {"images": IMAGES, "wanted": hidden_spec},
        model=lower,
        name="lower",
    )
    back = begin.grad(["0.weight", "0.bias"])  # not of the images, which nobody wants
    with back.attach() as first, end.grad(["weight", "bias", "images"]).attach() as second:
        forward = first.run(images, torch.zeros(8, 6))
        assert isinstance(forward, dict)
        above = second.run(forward["hidden"], labels)
        assert isinstance(above, dict)
        below = first.run(images, above["grad.images"])
        assert isinstance(below, dict)
    loss = loss_of(model)(images, labels)
    loss.backward()
    assert torch.equal(above["loss"], loss.detach())
    found = {"2.weight": above["grad.weight"], "2.bias": above["grad.bias"]}
    found |= {name: below[f"grad.{name}"] for name in ("0.weight", "0.bias")}
    for name, parameter in model.named_parameters():
        assert torch.allclose(found[name], parameter.grad, atol=1e-6), name  # type: ignore[arg-type]
    assert back.operations()["aten.mm.default"] == 1  # the weight's gradient alone


def test_a_gradient_that_is_not_there_is_refused() -> None:
    model = network()
    program = mt.capture(loss_of(model), {"images": IMAGES, "labels": LABELS}, model=model)
    with pytest.raises(ProgramError, match=r"no gradient by '2\.weigth'\. Did you mean '2\.weight'"):
        program.grad(["2.weigth"])
    partly = mt.capture(lambda images: {"loss": images.sum() * model[2].weight.sum()}, {"images": IMAGES}, model=model)
    with pytest.raises(ProgramError, match=r"does not depend on 0\.bias"):
        partly.grad(["2.weight", "0.bias"])


def test_a_saved_program_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    program = training(network())
    with program.attach() as session:
        session.run(*batches(1)[0])
    program.save(tmp_path / "saved")
    loaded = mt.Program.load(tmp_path / "saved")
    ends = []
    for each in (program, loaded):
        with each.attach() as session:
            losses = [float(session.run(*batch)) for batch in batches(5)]
        ends.append((losses, each.state))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(value, ends[1][1][name]) for name, value in ends[0][1].items())
    assert loaded.operations() == program.operations()
    assert loaded.inputs == program.inputs
    with pytest.raises(ProgramError, match="was loaded"):
        loaded.grad(["0.weight"])


def test_a_saved_program_holds_nothing_that_torch_would_unpickle(tmp_path: Path) -> None:
    import zipfile

    training(network()).save(tmp_path / "saved")
    with zipfile.ZipFile(tmp_path / "saved" / "program.pt2") as archive:
        sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in archive.infolist()}
    assert sizes["data/sample_inputs/model.pt"] == 0
    assert not [name for name in sizes if "weight_" in name or name.endswith((".pkl", "tensor_0"))]


@pytest.mark.parametrize("part", ["data/aotinductor/model/a.so", "data/weights/weight_0", "data/sample_inputs/b.pt"])
def test_a_file_with_a_part_that_torch_would_run_is_refused(tmp_path: Path, part: str) -> None:
    import hashlib
    import json
    import zipfile

    training(network()).save(tmp_path / "saved")
    path, manifest = tmp_path / "saved" / "program.pt2", tmp_path / "saved" / "program.json"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"program/{part}", b"harm")
    told = json.loads(manifest.read_text())
    told["sha256"]["program.pt2"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(told))
    with pytest.raises(ProgramError, match=f"holds {part}, which programs saved here do not"):
        mt.Program.load(tmp_path / "saved")


def test_a_manifest_that_leaves_a_file_out_is_refused(tmp_path: Path) -> None:
    import json

    training(network()).save(tmp_path / "saved")
    manifest = tmp_path / "saved" / "program.json"
    told = json.loads(manifest.read_text())
    del told["sha256"]["program.pt2"]
    manifest.write_text(json.dumps(told))
    with pytest.raises(ProgramError, match=r"program\.pt2 is not what the manifest says"):
        mt.Program.load(tmp_path / "saved")


def test_a_program_that_holds_tensors_of_its_own_is_saved_and_loaded(tmp_path: Path) -> None:
    factors = torch.tensor([1.0, 2.0, 3.0])
    program = mt.capture(lambda given: given * factors, {"given": mt.TensorSpec((3,))}, name="scaled")
    program.save(tmp_path / "saved")
    with mt.Program.load(tmp_path / "saved").attach() as session:
        output = session.run(torch.ones(3))
    assert isinstance(output, torch.Tensor)
    assert torch.equal(output, factors)


def test_a_damaged_or_absent_saved_program_is_refused(tmp_path: Path) -> None:
    training(network()).save(tmp_path / "saved")
    with pytest.raises(ProgramError, match="cannot be saved"):
        training(network()).save(tmp_path / "saved")
    path = tmp_path / "saved" / "program.pt2"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ProgramError, match=r"program\.pt2 is not what the manifest says"):
        mt.Program.load(tmp_path / "saved")
    with pytest.raises(ProgramError, match="There is no program"):
        mt.Program.load(tmp_path / "elsewhere")


def test_a_function_may_use_tensors_of_its_own_which_are_looked_at_in_every_run() -> None:
    scale = torch.tensor([1.0, 2.0])
    program = mt.capture(lambda values: values * scale, {"values": mt.TensorSpec((2,))})
    with program.attach() as session:
        assert session.run(torch.ones(2)).tolist() == [1.0, 2.0]  # type: ignore[union-attr]
        scale.fill_(7)
        assert session.run(torch.ones(2)).tolist() == [7.0, 7.0]  # type: ignore[union-attr]


def test_the_text_of_a_program_names_what_it_takes_does_and_gives() -> None:
    text = training(network()).text()
    for said in (
        "float32 [6, 12]  # state 0.weight",
        "# input labels",
        "aten.gelu_backward",
        "gives\n  loss: float32 []",
    ):
        assert said in text


def test_without_a_compiler_a_program_runs_as_it_was_captured_and_says_why() -> None:
    with training(network()).attach() as session:
        told = session.executable.told()
    assert session.state
    assert "not compiled" in told
    assert "no C++ compiler 'no-such-compiler'" in told


class Replacing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen + 1
        return images * self.seen


def test_a_model_that_replaces_a_buffer_is_refused() -> None:
    model = Replacing()
    with pytest.raises(ProgramError, match="replaces the buffers seen"):
        mt.capture(model, {"images": IMAGES}, model=model, name="replacing")


def test_a_setting_that_there_is_not_or_that_is_no_number_is_refused_where_it_is_set() -> None:
    with training(network()).attach() as session:
        with pytest.raises(ProgramError, match=r"no setting 'learning_rat'. Did you mean 'learning_rate'"):
            session.settings["learning_rat"] = 0.5
        with pytest.raises(ProgramError, match="'learning_rate' of the program 'train' is a number, not 'fast'"):
            session.settings["learning_rate"] = "fast"  # type: ignore[assignment]
        assert dict(session.settings) == {"learning_rate": 0.1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"function": 5}, "takes a function first, not 5"),
        ({"inputs": [torch.zeros(2)]}, "a dict of mt.TensorSpec .* not \\[tensor"),
        ({"inputs": {}}, "not \\{\\}"),
        (
            {"inputs": {"a": mt.TensorSpec((-1, 2)), "b": "words", "c": torch.zeros(1)}},
            "no tensors: 'a' is .*-1.*; 'b' is 'words'. Each is",
        ),
        ({"max_gradient_norm": 1.0}, "no optimizer, so that max_gradient_norm"),
        ({"device": "gpu"}, "no device 'gpu'. A program is for 'cpu', 'cuda'"),
        ({"device": "cuda:99"}, "'cuda:99' is not here"),
    ],
    ids=["function", "list", "nothing", "kinds", "norm", "device", "absent"],
)
def test_what_cannot_be_captured_is_refused_with_what_can(arguments: dict[str, Any], said: str) -> None:
    given = {"function": lambda x: x.sum(), "inputs": {"x": torch.zeros(2)}, **arguments}
    with pytest.raises(ProgramError, match=said):
        mt.capture(**given)


def test_a_limit_of_gradients_is_a_number_above_zero() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ProgramError, match="max_gradient_norm is a number above 0, not -1"):
        mt.capture(
            lambda x: model(x).sum(), {"x": torch.zeros(2, 12)}, model=model, optimizer=optimizer, max_gradient_norm=-1
        )


def test_a_device_that_is_not_here_is_refused_and_the_program_stays_as_it_was() -> None:
    program = training(network())
    with pytest.raises(ProgramError, match="'cuda:99' is not here"):
        program.attach("cuda:99")
    assert program.session is None
    assert program.graph.device == "cpu"


def test_gradients_are_asked_for_by_a_list_of_names_and_all_that_are_unknown_are_listed() -> None:
    program = training(network())
    for wrong in ("images", []):
        with pytest.raises(ProgramError, match="takes a list of names"):
            program.grad(wrong)
    with pytest.raises(ProgramError, match=r"no gradient by 'image' and 'labels'. Did you mean 'images'"):
        program.grad(["image", "labels"])


def test_weights_that_are_no_tensors_are_refused() -> None:
    program = training(network())
    with pytest.raises(ProgramError, match="takes a dict of tensors by name, not NoneType"):
        program.load_weights(None)  # type: ignore[arg-type]
    with pytest.raises(ProgramError, match="is 3 and should be float32"):
        program.load_weights(dict.fromkeys(program.weights, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("manifest", "said"), [("[1]", "holds no map"), ('{"version": 1, "weights": []}', "has no signature and no")]
)
def test_a_manifest_that_is_something_else_is_refused(tmp_path: Path, manifest: str, said: str) -> None:
    training(network()).save(tmp_path / "saved")
    (tmp_path / "saved" / "program.json").write_text(manifest)
    with pytest.raises(ProgramError, match=said):
        mt.Program.load(tmp_path / "saved")
