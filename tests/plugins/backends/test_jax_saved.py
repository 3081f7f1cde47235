"""What is done with checkpoints of the backend `jax`, and the test that ends a training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.errors import TrialError
from mnist_trials.events import CheckpointSaved, TrialTested, ValidationCompleted
from mnist_trials.training.evaluation import evaluate
from mnist_trials.training.loading import load_trial
from tests.plugins.backends.jax_lab import JaxLab, in_jax
from tests.training.lab import same, samples

ON_JAX = {"backend": {"name": "jax"}}


@in_jax
def test_a_loaded_trial_has_the_weights_and_evaluates_as_it_did(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Linen, Pure

    for trial_class in (Pure, Linen):
        run = lab.fit(trial_class, lab.context(config=ON_JAX))
        loaded = load_trial(lab.folder / "checkpoints" / str(run.result.checkpoint), trial_class)
        assert same(loaded._learner.weights(), run.weights)
        assert evaluate(loaded, loaded.context) == pytest.approx(run.result.metrics)
        images = loaded.inputs(samples(5)[0].numpy())  # type: ignore[attr-defined]
        assert loaded.model(images).shape == (5, 3)
        with pytest.raises(TrialError, match="optimizer is not there"):
            _ = loaded.optimizer


@in_jax
def test_weights_of_another_model_are_refused_by_name_and_shape(lab: JaxLab) -> None:
    from tests.plugins.backends import jax_models

    class Wider(jax_models.Pure):
        @override
        def build_model(self) -> Any:
            import jax.numpy as jnp

            def init(key: Any) -> Any:
                params = jax_models.init(key)
                return {"hidden": {**params["hidden"], "bias": jnp.zeros(9)}, "more": params["out"]}

            return init, jax_models.apply

    run = lab.fit(jax_models.Pure, lab.context(config=ON_JAX))
    with pytest.raises(TrialError) as raised:
        load_trial(lab.folder / "checkpoints" / str(run.result.checkpoint), Wider)
    assert "params.hidden.bias has the shape (8,), not (9,)" in str(raised.value)
    assert "params.more.bias is missing" in str(raised.value)
    assert "params.out.bias is not known" in str(raised.value)


@in_jax
def test_a_trial_starts_warm_from_weights_alone_and_goes_on_only_with_its_optimizer(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    first = lab.fit(Pure, lab.context({"momentum": 0.9}))
    uuid = str(first.result.checkpoint)
    folder = str(lab.folder / "checkpoints" / uuid)
    warm = lab.fit(Pure, lab.context({"learning_rate": 0.0}, warm_start=folder), max_length=mt.Batch(1))
    assert same(warm.weights, first.weights)
    assert warm.result.batches == 1
    with pytest.raises(TrialError, match=r"'sgd'.*not of 'adam'"):
        lab.fit(Pure, lab.context({"optimizer": "adam"}, checkpoints=[uuid]), max_length=mt.Batch(20))
    with pytest.raises(TrialError, match=r"another optimizer: .*trace"):
        lab.fit(Pure, lab.context(checkpoints=[uuid]), max_length=mt.Batch(20))


@in_jax
def test_an_optimizer_that_keeps_weights_begins_with_those_of_a_warm_start(lab: JaxLab) -> None:
    import optax.contrib

    from tests.plugins.backends.jax_models import Pure

    class Averaged(Pure):
        @override
        def build_optimizer(self, model: Any) -> Any:
            return optax.contrib.schedule_free_sgd(1e-7)

    first = lab.fit(Pure)
    folder = str(lab.folder / "checkpoints" / str(first.result.checkpoint))
    hparams = {"optimizer": None, "learning_rate": None}
    warm = lab.fit(Averaged, lab.context(hparams, warm_start=folder), max_length=mt.Batch(3))
    assert all(torch.allclose(warm.weights[name], weight, atol=1e-4) for name, weight in first.weights.items())


@in_jax
def test_init_with_inputs_and_lists_cannot_be_loaded_without_data(lab: JaxLab) -> None:
    from tests.plugins.backends import jax_models

    class Listed(jax_models.Pure):
        @override
        def build_model(self) -> Any:
            def init(key: Any, images: Any) -> Any:
                params = jax_models.init(key)
                return [params["hidden"], params["out"]]

            return init, lambda params, images: jax_models.apply({"hidden": params[0], "out": params[1]}, images)

        @override
        def sharding_rules(self) -> Any:
            return {}

    run = lab.fit(Listed, lab.context(config=ON_JAX))
    assert next(iter(run.weights)) == "params.0.bias"
    folder = lab.folder / "checkpoints" / str(run.result.checkpoint)
    with pytest.raises(TrialError, match=r"init\(key\)"):
        load_trial(folder, Listed)


@in_jax
def test_one_batch_is_tried_out_saved_and_read_back(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Linen

    run = lab.fit(Linen, lab.context(test_mode=True), max_length=mt.Batch(10), test_mode=True)
    assert run.result.batches == 1


@in_jax
def test_the_best_checkpoint_is_tested_once_and_the_last_weights_stay(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    class Tested(Pure):
        """Gets worse after its best validation."""

        @override
        def build_test_data(self) -> Any:
            return mt.TensorData(*samples(50, seed=2))

    schedule = {"name": "piecewise_constant", "milestones": [26], "factors": [1.0, 400.0], "per": "batch"}
    hparams = {"run_test": True, "lr_schedule": schedule}
    run = lab.fit(Tested, lab.context(hparams), max_length=mt.Epoch(3), validation_period=mt.Epoch(1))
    losses = {event.batches: event.metrics["validation_loss"] for event in run.channel.of(ValidationCompleted)}
    best = min(losses, key=lambda batches: losses[batches] or 0.0)
    assert best == 26  # not the last one
    (tested,) = run.channel.of(TrialTested)
    saved = {event.checkpoint.batches: event.checkpoint.uuid for event in run.channel.of(CheckpointSaved)}
    assert (tested.batches, tested.checkpoint) == (26, saved[26])
    assert set(tested.metrics) == {"test_loss", "test_accuracy"}
    assert same(run.weights, dict(lab.read(saved[39]).model))
    # what a trial with these weights finds on the test data
    fresh = load_trial(lab.folder / "checkpoints" / saved[26], Tested, backend="jax")
    found = evaluate(fresh, fresh.context, "test")
    assert tested.metrics["test_loss"] == pytest.approx(found["validation_loss"])
    # a run that goes on after its end tests the same again
    again = lab.context(hparams, checkpoints=[saved[39], saved[26]])
    ended = lab.fit(Tested, again, max_length=mt.Epoch(3))
    (retested,) = ended.channel.of(TrialTested)
    assert retested.checkpoint == saved[26]
    assert same(ended.weights, run.weights)


@in_jax
def test_a_test_needs_test_data_and_a_switch_that_is_one(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    with pytest.raises(TrialError, match="Pure has no test data"):
        lab.fit(Pure, lab.context({"run_test": True}))
    with pytest.raises(TrialError, match="'run_test' is true or false, not 'yes'"):
        lab.fit(Pure, lab.context({"run_test": "yes"}))


@in_jax
def test_all_that_is_saved_is_plain_tensors(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Linen

    run = lab.fit(Linen, lab.context({"optimizer": "adam", "aggregation_frequency": 2}, precision="bf16-true"))
    content = lab.read(str(run.result.checkpoint))
    assert {value.dtype for value in content.model.values()} == {torch.bfloat16}
    tree = content.state["learner"]["tree"]
    assert tree["steps"].item() == 5
    assert "sums.Dense_0.kernel" in tree
    assert all(isinstance(value, torch.Tensor) for value in tree.values())
