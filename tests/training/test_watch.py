"""`watch`: what is looked at after which batches, and that nobody can tell from the training."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import mnist_trials as mt
from mnist_trials.events import HistogramsReported
from mnist_trials.records import Histogram
from mnist_trials.testing.channel import RecordingChannel
from tests.training.lab import SEARCHED, Lab, Run, Small, same

RATE = 0.1
NAMES = ["1.weight", "1.bias", "4.weight", "4.bias"]


def fit(
    lab: Lab,
    trial: type[mt.Trial] = Small,
    hparams: dict[str, Any] | None = None,
    *,
    what: str = "all",
    every: int = 1,
    stop: int = 0,
    batches: int = 10,
    **options: Any,
) -> Run:
    channel = RecordingChannel()
    if stop:
        channel.stop_at_poll(stop)
    config = {**SEARCHED, "watch": {"what": what, "every": every} if every else None, **options.pop("config", {})}
    return lab.fit(trial, lab.context(hparams, config, channel=channel, **options), max_length=mt.Batch(batches))


def looks(run: Run) -> list[HistogramsReported]:
    return run.channel.of(HistogramsReported)


def at(run: Run) -> list[int]:
    return [event.batches for event in looks(run)]


def by_name(event: HistogramsReported, kind: str) -> dict[str, Histogram]:
    return {found.name: found for found in event.histograms if found.kind == kind}


@pytest.mark.parametrize(
    ("what", "kinds"),
    [("parameters", ["parameters"]), ("gradients", ["gradients"]), ("all", ["parameters", "gradients"])],
)
def test_every_parameter_is_looked_at_after_so_many_batches(lab: Lab, what: str, kinds: list[str]) -> None:
    run = fit(lab, what=what, every=4)
    assert [(event.batches, event.records, event.epochs) for event in looks(run)] == [(4, 32, 4 / 13), (8, 64, 8 / 13)]
    for event in looks(run):
        assert [(found.kind, found.name) for found in event.histograms] == [(k, name) for k in kinds for name in NAMES]


def test_parameters_are_those_after_the_batch(lab: Lab) -> None:
    run = fit(lab, every=10)
    (event,) = looks(run)
    for name, found in by_name(event, "parameters").items():
        weight = run.weights[name]
        assert (found.minimum, found.maximum) == (float(weight.min()), float(weight.max()))
        assert found.size == sum(found.counts) == weight.numel()


def updates_are_gradients(run: Run, names: list[str] = NAMES) -> None:
    """From one look to the next a parameter has moved by the rate times its gradient, so its mean has too."""
    assert len(looks(run)) > 2
    for before, after in pairwise(looks(run)):
        for name in names:
            moved = by_name(before, "parameters")[name].mean - by_name(after, "parameters")[name].mean  # type: ignore[operator]
            gradient = by_name(after, "gradients")[name].mean
            assert gradient is not None
            assert moved == pytest.approx(RATE * gradient, abs=1e-6)


@pytest.mark.parametrize(
    ("hparams", "options"),
    [
        ({}, {}),
        ({"aggregation_frequency": 3}, {}),
        ({}, {"precision": "fp16-mixed"}),
        ({}, {"loss_scale": 1024.0}),
        ({"max_gradient_norm": 1e6}, {"loss_scale": 1024.0}),
    ],
    ids=str,
)
def test_gradients_are_those_of_the_last_update_in_their_true_size(
    lab: Lab, hparams: dict[str, Any], options: Any
) -> None:
    every = hparams.get("aggregation_frequency", 1)
    updates_are_gradients(fit(lab, hparams=hparams, every=every, batches=12, **options))


@pytest.mark.parametrize("hparams", [{}, {"aggregation_frequency": 3, "max_gradient_norm": 1e6}], ids=str)
def test_steps_that_are_programs_are_watched_too(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, hparams: dict[str, Any]
) -> None:
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(lab.folder / "home"))
    monkeypatch.setenv("CXX", "no-such-compiler")  # programs run as they were captured: it is quicker
    every = hparams.get("aggregation_frequency", 1)
    updates_are_gradients(fit(lab, hparams=hparams, every=every, batches=12, config={"compile": "program"}))


def test_gradients_are_those_of_before_they_are_clipped(lab: Lab) -> None:
    plain = fit(lab, what="gradients", batches=1)
    clipped = fit(lab, hparams={"max_gradient_value": 1e-4, "max_gradient_norm": 1e-4}, what="gradients")
    assert looks(clipped)[0].histograms == looks(plain)[0].histograms


@pytest.mark.parametrize("options", [{}, {"precision": "fp16-mixed"}, {"precision": "bf16-true"}], ids=str)
@pytest.mark.parametrize(
    "hparams", [{}, {"max_gradient_norm": 0.1, "aggregation_frequency": 2, "momentum": 0.9}], ids=str
)
def test_a_training_that_is_watched_is_the_same_to_the_bit(lab: Lab, options: Any, hparams: dict[str, Any]) -> None:
    unwatched = fit(lab, hparams=hparams, every=0, **options)
    assert looks(unwatched) == []
    assert same(fit(lab, hparams=hparams, **options).weights, unwatched.weights)


def test_a_look_into_an_open_group_waits_for_its_update(lab: Lab) -> None:
    run = fit(lab, hparams={"aggregation_frequency": 4}, every=5, batches=13)
    assert at(run) == [8, 12]  # after 5, and after 10


def test_a_group_that_the_end_of_an_epoch_cuts_short_is_an_update_too(lab: Lab) -> None:
    run = fit(lab, hparams={"aggregation_frequency": 4}, every=13, batches=26)
    assert at(run) == [13, 26]
    assert all(by_name(event, "gradients") for event in looks(run))


@pytest.mark.parametrize("stop", range(1, 10))
def test_a_resumed_training_is_looked_at_after_the_same_batches(lab: Lab, stop: int) -> None:
    straight = fit(lab, every=3)
    first = fit(lab, every=3, stop=stop)
    second = fit(lab, every=3, checkpoints=[str(first.result.checkpoint)])
    assert looks(first) + looks(second) == looks(straight)


def test_gradients_that_overflow_are_counted_as_not_finite(lab: Lab) -> None:
    class Overflowing(Small):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            return {"loss": super().train_batch(batch, epoch_idx, batch_idx)["loss"] * 1e30}

    run = fit(lab, Overflowing, what="gradients", batches=1, loss_scale=1e10)
    (event,) = looks(run)
    assert any(found.not_finite for found in event.histograms)


class Two(Small):
    """Steps two optimizers itself, the second every other batch."""

    def build_model(self) -> Any:
        return {"first": torch.nn.Linear(16, 3), "second": torch.nn.Linear(16, 3)}

    def build_optimizer(self, model: Any) -> Any:
        return {name: torch.optim.SGD(model[name].parameters(), lr=RATE) for name in model}

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        losses = {}
        for name in ("first", "second") if batch_idx % 2 == 0 else ("first",):
            losses[name] = cross_entropy(self.model[name](images.flatten(1)), labels)
            self.context.backward(losses[name])
            self.context.step_optimizer(self.optimizer[name])
        return losses

    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        return {"validation_loss": 1.0}


def test_a_trial_that_steps_itself_is_watched_at_its_own_steps(lab: Lab) -> None:
    run = fit(lab, Two)
    updates_are_gradients(run, ["first.weight", "first.bias"])
    second = ["second.weight", "second.bias"]
    assert [list(by_name(event, "gradients"))[2:] for event in looks(run)] == [second, []] * 5


class OwnStep(Small):
    """Steps its optimizer without a word."""

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(images), labels)
        self.context.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach()}


def test_a_trial_of_whose_updates_nothing_is_known_is_looked_at_all_the_same(lab: Lab) -> None:
    run = fit(lab, OwnStep, every=4)
    assert at(run) == [5, 9]
    assert [found.kind for found in looks(run)[0].histograms] == ["parameters"] * 4


def test_what_is_kept_of_gradients_is_given_up_with_the_look(lab: Lab) -> None:
    run = fit(lab, every=3)
    assert run.context._stepper is not None
    assert run.context._stepper.kept == {}
