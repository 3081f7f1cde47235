"""A trial that breaks the rules is told which one, and what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import mnist_trials as mt
from mnist_trials.errors import DataError, TrialError
from tests.training.lab import Lab, Small, samples, unit


def returning(method: str, value: Any) -> type[mt.Trial]:
    """A trial whose `method` returns `value`, or what it gives when called with the trial."""

    def replacement(self: Any, *_: Any) -> Any:
        return value(self) if callable(value) else value

    return type("Broken", (Small,), {method: replacement})


DATA = mt.TensorData(*samples(), unit)


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("train_batch", None, "train_batch must return the loss.*returned nothing \\(is a `return` missing"),
        ("train_batch", [1.0], "train_batch must return the loss.*returned list"),
        ("train_batch", {}, "has no 'loss'. It has: nothing"),
        ("train_batch", {"cost": torch.tensor(1.0)}, "has no 'loss'. It has: cost"),
        ("train_batch", {"loss": 1.5}, "The loss must be a tensor.*1.5"),
        ("train_batch", {"loss": None}, "The loss must be a tensor.*None"),
        ("train_batch", torch.tensor(1.0), "does not depend on any parameter"),
        ("train_batch", lambda t: t.model(torch.zeros(2, 4, 4)), r"tensor of shape \(2, 3\).*mean"),
        ("evaluate_batch", None, "evaluate_batch must return a dict of metrics.*NoneType"),
        ("evaluate_batch", 0.5, "evaluate_batch must return a dict of metrics.*float"),
        ("evaluate_batch", {}, "evaluate_batch must return a dict of metrics.*an empty one"),
        ("evaluate_batch", {3: 0.5}, "a metric named 3"),
        ("build_model", None, "build_model must return a torch.nn.Module.*NoneType"),
        ("build_model", {"a": 1}, "build_model must return a torch.nn.Module.*dict"),
        ("build_optimizer", None, "build_optimizer must return a torch optimizer.*NoneType"),
        ("build_optimizer", {}, "build_optimizer must return a torch optimizer.*dict"),
        ("build_lr_scheduler", 0.1, "build_lr_scheduler must return.*float"),
        ("build_callbacks", 5, "build_callbacks must return.*int"),
        ("build_callbacks", ["a"], "build_callbacks must return.*str"),
        ("build_data", None, "build_data must return two data sets.*NoneType"),
        ("build_data", (DATA,), "build_data must return two data sets.*1 things"),
        ("build_data", (DATA, [1, 2]), "build_data returned list as validation data"),
        ("build_data", (None, DATA), "build_data returned NoneType as training data"),
    ],
)
def test_what_a_method_returns_is_checked(lab: Lab, method: str, value: Any, message: str) -> None:
    with pytest.raises(TrialError, match=f"(?s){message}"):
        lab.fit(returning(method, value))


def test_the_loss_may_be_returned_as_it_is_or_weighted_or_in_any_mapping(lab: Lab) -> None:
    from types import MappingProxyType

    def loss(trial: Any, batch: Any) -> Any:
        return cross_entropy(trial.model(batch[0]), batch[1])

    shapes: list[Any] = [
        loss,
        lambda t, b: mt.weighted(loss(t, b), 8),
        lambda t, b: {"loss": mt.weighted(loss(t, b), 8)},
        lambda t, b: MappingProxyType({"loss": loss(t, b)}),
        lambda t, b: {"loss": loss(t, b).reshape(1)},
    ]
    results = []
    for shape in shapes:

        class Shaped(Small):
            def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
                return shape(self, batch)  # noqa: B023

        results.append(lab.fit(Shaped).weights)
    assert all(torch.equal(results[0][name], other[name]) for other in results for name in other)


def test_an_error_of_torch_reaches_the_user_with_his_own_line(lab: Lab) -> None:
    class WrongShape(Small):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            return cross_entropy(self.model(batch[0][:, :3]), batch[1])  # my wrong line

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        lab.fit(WrongShape)
    assert any("my wrong line" in str(entry.statement) for entry in caught.traceback)


def test_a_missing_hyperparameter_names_those_there_are_and_the_nearest(lab: Lab) -> None:
    context = lab.context({"nested": {"width": 3}})
    with pytest.raises(TrialError, match=r"'learning_rat'.*Did you mean 'learning_rate'\?.*Given: .*optimizer"):
        context.hparams["learning_rat"]
    with pytest.raises(TrialError, match=r"'nested\.widht'.*Did you mean 'width'\?"):
        context.hparams["nested"]["widht"]
    with pytest.raises(KeyError):
        context.hparams["absent"]
    assert context.hparams.get("absent") is None
    assert isinstance(context.hparams, dict)


def test_hyperparameters_can_be_copied_and_pickled(lab: Lab) -> None:
    import copy
    import pickle

    hparams = lab.context({"nested": {"width": 3}}).hparams
    for other in (copy.deepcopy(hparams), copy.copy(hparams), pickle.loads(pickle.dumps(hparams))):
        assert other == hparams
        with pytest.raises(TrialError):
            other["nested"]["depth"]


def test_the_metric_of_the_searcher_must_be_among_the_results(lab: Lab) -> None:
    config = {"searcher": {"metric": "validation_accuracy"}}
    with pytest.raises(TrialError, match=r"judges trials by 'validation_accuracy'.*gave: accuracy, validation_loss"):
        lab.fit(Small, lab.context(config=config))


def test_a_script_need_not_have_the_metric_of_a_searcher(lab: Lab) -> None:
    run = lab.fit(Small, lab.context(config={"searcher": {"metric": "other"}}, experiment_id=0))
    assert run.result.best_metric == run.result.metrics["validation_loss"]


def test_model_and_optimizer_are_not_there_before_they_are_built(lab: Lab) -> None:
    trial = Small(lab.context())
    with pytest.raises(TrialError, match=r"self.model is not there yet"):
        trial.model  # noqa: B018
    with pytest.raises(TrialError, match=r"self.optimizer is not there"):
        trial.optimizer  # noqa: B018


def test_invalid_hyperparameters_reach_the_caller(lab: Lab) -> None:
    class Picky(Small):
        def build_model(self) -> Any:
            raise mt.InvalidHP("too wide")

    with pytest.raises(mt.InvalidHP, match="too wide"):
        lab.fit(Picky)


def test_evaluation_is_in_eval_mode_without_gradients_and_puts_modes_back(lab: Lab) -> None:
    modes: list[bool] = []

    class Watching(Small):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            modes.append(self.model.training)
            assert not self.model[1].training or batch_idx == 0
            self.model[1].eval()
            return super().train_batch(batch, epoch_idx, batch_idx)

        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            assert not any(module.training for module in self.model.modules())
            assert not torch.is_grad_enabled()
            return super().evaluate_batch(batch, batch_idx)

    lab.fit(Watching, validation_period=mt.Batch(1))
    assert modes == [True] * 10


def test_empty_data_is_named(lab: Lab) -> None:
    with pytest.raises(DataError, match="no sample at all"):
        mt.TensorData(torch.zeros(0, 4, 4), torch.zeros(0))
    with pytest.raises(DataError, match=r"3 images \(shape \(3, 4\)\) but 2 labels"):
        mt.TensorData(torch.zeros(3, 4), torch.zeros(2))
    with pytest.raises(DataError, match="as labels, not 7"):
        mt.TensorData(torch.zeros(3, 4), 7)  # type: ignore[arg-type]
