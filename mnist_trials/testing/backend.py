"""The tests that every backend passes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, final

import pytest

from mnist_trials.errors import PluginError
from mnist_trials.plugin import Backend, Execution, ExecutionSettings, get_plugins
from mnist_trials.testing import backend_ranks

if TYPE_CHECKING:
    import torch

DEADLINE = 120.0
"""Seconds that a process may take; only a failing test waits so long."""

PRECISIONS = ("fp32", "bf16-mixed", "fp16-mixed", "bf16-true")


@final
class Pair(NamedTuple):
    """A batch of a kind of its own."""

    first: Any
    second: Any


class BackendSuite:
    """Subclass this in your tests and name your plugin; skip the class where its device is not here.

    class TestMyBackend(BackendSuite):
        plugin = "my_backend"
        precisions = ("fp32", "bf16-mixed")
    """

    plugin: ClassVar[str]
    """The backend's name."""

    options: ClassVar[Mapping[str, Any]] = {}
    """What stands beside the name in a config."""

    precisions: ClassVar[tuple[str, ...]] = PRECISIONS
    """The precisions that the device can compute in; the others must be refused."""

    own_models: ClassVar[bool] = False
    """Whether its trials are of a framework of its own: the tests of torch models are left out then."""

    meshes: ClassVar[Sequence[tuple[int, int]]] = ()
    """The meshes, (data, tensor), of as many processes as the machine of the tests can run; 1 <= data <= 8."""

    @pytest.fixture(autouse=True)
    def as_in_a_worker(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """The variables of a worker are set; what opening a device changes in the process is put back afterwards."""
        import torch

        backend = self.make()
        for name, value in backend.environment(backend.slots(1)).items():
            monkeypatch.setenv(name, value)
        threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        yield
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)

    @pytest.fixture
    def backend(self) -> Backend:
        """The backend under test."""
        return self.make()

    def need_torch_models(self) -> None:
        """Called by the tests that train one."""
        if self.own_models:
            pytest.skip("the backend trains models of its own framework")

    def make(self, **options: Any) -> Backend:
        """A new backend, made as the runtime makes it."""
        backend: Backend = get_plugins().find("backend", self.plugin).factory({**self.options, **options})
        return backend

    def open(self, precision: str = "fp32", seed: int = 3, deterministic: bool = False) -> Execution:
        """The first slot's device, with one CPU thread."""
        backend = self.make()
        slot = replace(backend.slots(1)[0], threads=1)
        settings = ExecutionSettings(
            slots=(slot,), precision=precision, compile=False, deterministic=deterministic, seed=seed
        )
        return backend.open(settings)

    def test_slots_are_found_without_importing_torch(self) -> None:
        """The controller asks for slots and must not pay for torch."""
        code = (
            "import sys; from mnist_trials.plugin import get_plugins; "
            f"backend = get_plugins().find('backend', {self.plugin!r}).factory({dict(self.options)!r}); "
            "slots = backend.slots(None); [backend.environment((slot,)) for slot in slots]; "
            "assert slots; assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE)  # noqa: S603

    def test_slots_differ_and_have_threads(self, backend: Backend) -> None:
        """Each has an id and an index of its own, and at least one thread."""
        slots = backend.slots(None)
        assert [slot.index for slot in slots] == list(range(len(slots)))
        assert len({slot.id for slot in slots}) == len(slots) > 0
        assert all(slot.threads >= 1 and slot.backend == self.plugin and slot.description for slot in slots)

    def test_as_many_slots_as_asked_for(self, backend: Backend) -> None:
        """`count` slots, where there are so many."""
        for count in range(1, len(backend.slots(None)) + 1):
            assert len(backend.slots(count)) == count

    def test_more_slots_than_there_can_be_are_refused(self, backend: Backend) -> None:
        """The text says how many there are."""
        with pytest.raises(PluginError, match=str(len(backend.slots(None)))):
            backend.slots(1_000_000)

    def test_an_option_that_is_not_known_is_refused_by_name(self) -> None:
        """A misspelt option must not be ignored."""
        with pytest.raises(PluginError, match="flavour"):
            self.make(flavour="mild")

    def test_the_environment_is_text(self, backend: Backend) -> None:
        """It is handed to a process."""
        variables = backend.environment(backend.slots(1))
        assert all(isinstance(text, str) for pair in variables.items() for text in pair)

    def test_a_prepared_model_lies_on_the_device_under_the_same_names(self) -> None:
        """Checkpoints name parameters as the user's model does."""
        self.need_torch_models()
        model = _model()
        names = list(model.state_dict())
        execution = self.open()
        prepared = execution.prepare(model, {})
        assert list(prepared.state_dict()) == names
        assert {parameter.device for parameter in prepared.parameters()} == {execution.device}

    def test_batches_of_any_nesting_come_to_the_device(self) -> None:
        """Containers keep their kind, and what is no tensor stays as it is."""
        self.need_torch_models()
        import torch

        execution = self.open()
        batch = {"a": [torch.zeros(2), (torch.ones(3, dtype=torch.int64), "text")], "b": Pair(torch.zeros(1), None)}
        moved = execution.to_device(batch)
        assert {moved["a"][0].device, moved["a"][1][0].device, moved["b"].first.device} == {execution.device}
        assert moved["a"][1][1] == "text"
        assert isinstance(moved["b"], Pair)
        assert moved["a"][1][0].dtype == torch.int64

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_training_learns_in_every_precision_that_there_is(self, precision: str) -> None:
        """Each precision trains, or is refused when the device is opened."""
        if precision not in self.precisions:
            with pytest.raises(PluginError):
                self.open(precision)
            return
        self.need_torch_models()
        losses, _ = self.trained(precision, steps=60)
        assert losses[-1] < 0.5 * losses[0]

    def trained(self, precision: str, steps: int, deterministic: bool = False) -> tuple[list[float], torch.nn.Module]:
        """The losses of a short training, and the trained model."""
        import torch

        execution = self.open(precision, deterministic=deterministic)
        model = execution.prepare(_model(), {})
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        inputs = torch.rand(32, 4)
        batch = execution.to_device((inputs, (inputs.sum(1) > 2).long()))
        losses, flush = [], execution.flusher()
        for _ in range(steps):
            loss = _loss(execution, model, batch)
            execution.backward(loss)
            execution.unscale(optimizer)
            execution.step(optimizer)
            optimizer.zero_grad()
            if flush is not None:  # as the runtime does after every batch
                flush()
            losses.append(loss.item())
        return losses, model

    def test_an_unknown_precision_is_refused(self) -> None:
        """The text names those that there are."""
        with pytest.raises(PluginError, match="fp32"):
            self.open("fp12")

    def test_bf16_true_computes_in_bfloat16(self) -> None:
        """Parameters and floating-point inputs; integers stay what they are."""
        self.need_torch_models()
        import torch

        if "bf16-true" not in self.precisions:
            pytest.skip("the device has no bf16-true")
        execution = self.open("bf16-true")
        assert {p.dtype for p in execution.prepare(_model(), {}).parameters()} == {torch.bfloat16}
        moved = execution.to_device((torch.zeros(1), torch.zeros(1, dtype=torch.int64)))
        assert [tensor.dtype for tensor in moved] == [torch.bfloat16, torch.int64]

    def test_unscaled_gradients_have_their_true_size(self) -> None:
        """Also where a scaler makes them larger in between."""
        self.need_torch_models()
        import torch

        for precision in ("fp16-mixed", "fp32"):
            if precision not in self.precisions:
                continue
            execution = self.open(precision)
            weight = torch.nn.Parameter(torch.ones(3, device=execution.device))
            optimizer = torch.optim.SGD([weight], lr=1.0)
            execution.backward((2 * weight).sum())
            execution.unscale(optimizer)
            assert weight.grad is not None
            assert weight.grad.tolist() == [2.0] * 3

    def test_an_overflowed_gradient_is_not_stepped_on_where_gradients_are_scaled(self) -> None:
        """The scaler finds its scale by trying."""
        import torch

        if "fp16-mixed" not in self.precisions:
            pytest.skip("the device has no fp16-mixed")
        execution = self.open("fp16-mixed")
        weight = torch.nn.Parameter(torch.ones(1, device=execution.device))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        execution.backward((weight * float("inf")).sum())
        execution.step(optimizer)
        assert weight.item() == 1.0

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_random_numbers_and_scaler_go_on_from_a_saved_state(self, precision: str) -> None:
        """Python's, numpy's, torch's and the device's own."""
        if precision not in self.precisions:
            return
        execution = self.open(precision)
        _draw(execution)
        saved = execution.state_dict()
        expected = _draw(execution)
        other = self.open(precision, seed=4)
        assert _draw(other) != expected
        other.load_state_dict(saved)
        assert _draw(other) == expected
        assert repr(other.state_dict()["scaler"]) == repr(saved["scaler"])

    def test_the_seed_decides_all_random_numbers(self) -> None:
        """Two openings with one seed draw the same, with another seed others."""
        first, again, other = (_draw(self.open(seed=seed)) for seed in (1, 1, 2))
        assert first == again
        assert all(a != b for a, b in zip(first, other, strict=True))

    def test_deterministic_training_repeats_to_the_bit(self) -> None:
        """Where the config asks for it."""
        self.need_torch_models()
        import torch

        runs = [self.trained("fp32", steps=5, deterministic=True)[1].state_dict() for _ in range(2)]
        assert torch.are_deterministic_algorithms_enabled()
        assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])

    def test_several_ranks_train_as_one_does(self, tmp_path: Path) -> None:
        """Each mesh comes to the weights that a single process comes to, from the weights of rank 0."""
        self.need_torch_models()
        alone = backend_ranks.trained(self.open()) if self.meshes else {}
        for mesh in self.meshes:
            reports = self.reports(mesh, tmp_path / f"{mesh[0]}x{mesh[1]}")
            assert len({json.dumps(report["weights"]) for report in reports}) == 1
            _require_close(reports[0]["weights"], alone["weights"])
            assert all(report["parts_fit"] for report in reports)
            _require_line(reports, *mesh)
            if mesh[1] > 1:
                assert max(report["elements"] for report in reports) < alone["elements"]

    def test_ranks_that_do_not_come_are_named(self, tmp_path: Path) -> None:
        """Whoever waited says who is missing, and who is there."""
        if not self.meshes:
            pytest.skip("there is no machine for several ranks here")
        here, late = self.reports((3, 1), tmp_path, start_seconds=1, absent=(1,))
        assert "Rank 1 of 3 did not come within 1 s" in here["refused"]
        assert "rank 0 (" in here["refused"]
        assert "rank 2 (" in here["refused"]
        assert late["refused"]

    def reports(
        self, mesh: tuple[int, int], folder: Path, *, start_seconds: float = DEADLINE, **more: Any
    ) -> list[dict[str, Any]]:
        """What the ranks of `mesh` found, by rank; see `backend_ranks`."""
        folder.mkdir(exist_ok=True)
        plugin = {"plugin": self.plugin, "options": dict(self.options), "start_seconds": start_seconds}
        processes = backend_ranks.start(self.make(), plugin, mesh, folder, **more)
        try:
            assert [process.wait(DEADLINE) for process in processes] == [0] * len(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def _require_close(weights: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    import torch

    assert list(weights) == list(expected)
    for name, values in weights.items():
        torch.testing.assert_close(torch.tensor(values), torch.tensor(expected[name]), atol=1e-5, rtol=1e-4)


def _require_line(reports: list[dict[str, Any]], data: int, tensor: int) -> None:
    """What each rank heard of the others."""
    size = data * tensor
    for report in reports:
        assert report["gathered"] == [{"rank": rank, "nothing": None} for rank in range(size)]
        assert (report["shared"], report["posted"]) == ("word of 0", 100)
        assert report["sum"] == sum(rank + 0.5 for rank in range(data))
        assert report["buffers"] == [[1.0, 1.0], [1.0, 1.0], 1, []]
        assert size == 1 or (report["heard"] != [""] and report["after"])
        assert report.get("still", [0]) == list(range(size))
    if size > 1:
        assert [report["carried"][0] for report in reports[1:]] == [[float(rank)] * 3 for rank in range(1, size)]
        assert reports[0]["carried"] == [[0.0] * 3, [2.0 * (size - 1)] * 3]
    assert reports[0]["lost"]
    drawn = [report["drawn"] for report in reports]  # the same within a tensor group, others elsewhere
    assert all(len(set(drawn[row : row + tensor])) == 1 for row in range(0, size, tensor))
    assert len(set(drawn)) == data


def _model() -> torch.nn.Module:
    import torch

    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))


def _loss(execution: Execution, model: torch.nn.Module, batch: Any) -> torch.Tensor:
    import torch

    inputs, labels = batch
    autocast = execution.autocast()
    if autocast is None:
        return torch.nn.functional.cross_entropy(model(inputs), labels)
    with autocast:
        return torch.nn.functional.cross_entropy(model(inputs), labels)


def _draw(execution: Execution) -> list[float]:
    import numpy as np
    import torch

    return [
        random.random(),  # noqa: S311
        float(np.random.rand()),
        float(torch.rand(())),
        float(torch.rand((), device=execution.device)),
    ]
