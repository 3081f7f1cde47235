"""Trials of the backend `jax` over several devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.errors import PluginError, TrialError
from tests.plugins.backends.jax_lab import JaxLab, in_jax
from tests.training.lab import same


@in_jax
def test_two_devices_come_to_what_one_comes_to(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Linen

    hparams = {"optimizer": "adam", "learning_rate": 0.003}
    alone = lab.fit(Linen, lab.context(hparams), max_length=mt.Batch(30))
    for mesh in ((2, 1), (1, 2)):
        run = lab.fit(Linen, lab.context(hparams, mesh=mesh), max_length=mt.Batch(30))
        for name, value in alone.weights.items():
            torch.testing.assert_close(run.weights[name], value, atol=1e-6, rtol=1e-6)
        assert run.result.metrics == pytest.approx(alone.result.metrics, abs=1e-6)


@in_jax
def test_rules_split_parameters_and_what_the_optimizer_keeps_of_them(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    run = lab.fit(Pure, lab.context({"momentum": 0.9}, mesh=(1, 2)))
    state = run.trial._learner._state
    for tree in (state["weights"]["params"], state["optimizer"][1].trace):
        assert {shard.data.shape for shard in tree["hidden"]["weight"].addressable_shards} == {(16, 4)}
        assert {shard.data.shape for shard in tree["out"]["bias"].addressable_shards} == {(3,)}


@pytest.mark.slow
@in_jax
def test_a_training_goes_on_on_another_mesh(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Linen

    straight = lab.fit(Linen, lab.context({"momentum": 0.9}), max_length=mt.Batch(20))
    half = lab.fit(Linen, lab.context({"momentum": 0.9}, mesh=(1, 2)), max_length=mt.Batch(9))
    context = lab.context({"momentum": 0.9}, mesh=(2, 1), checkpoints=[str(half.result.checkpoint)])
    resumed = lab.fit(Linen, context, max_length=mt.Batch(20))
    for name, value in straight.weights.items():
        torch.testing.assert_close(resumed.weights[name], value, atol=1e-6, rtol=1e-6)


@in_jax
def test_a_batch_that_cannot_be_split_evenly_is_an_error_that_names_both_numbers(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    with pytest.raises(TrialError, match=r"batch of 9 samples cannot be split evenly over 2 slots\. Use 8 or 10"):
        lab.fit(Pure, lab.context({"global_batch_size": 9}, mesh=(2, 1)))


@in_jax
def test_rules_that_do_not_fit_are_an_error_that_says_why(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    cases: dict[str, Any] = {
        "there are none": {},
        r"matches no parameter \(there are params.hidden.weight": {r"params\.hiden\.weight": (None, "tensor")},
        "3 does not divide by 2": {r"params\.out\.bias": ("tensor",)},
        "has 2 dimensions": {r"params\.out\.weight": ("tensor",)},
        "cannot be split over 'model'": {r"params\.out\.weight": ("model", None)},
        "in one dimension only": {r"params\.hidden\.weight": ("tensor", "tensor")},
        "is no regular expression": {"(": (None,)},
        "differ": {r"params\.hidden\.weight": (None, "tensor"), r".*hidden\.weight": ("tensor", None)},
    }
    for text, rules in cases.items():
        trial = type("Other", (Pure,), {"sharding_rules": lambda self, rules=rules: rules})
        with pytest.raises(TrialError, match=f"mesh.tensor is 2.*{text}"):
            lab.fit(trial, lab.context(mesh=(1, 2)))
        lab.fit(trial, max_length=mt.Batch(1))  # without a tensor dimension they have no effect


@in_jax
def test_more_slots_than_devices_are_refused(lab: JaxLab) -> None:
    with pytest.raises(PluginError, match=r"2 devices here.*4 slots"):
        lab.context(mesh=(4, 1))


@pytest.mark.slow
@in_jax
def test_resuming_on_the_same_mesh_is_exact(lab: JaxLab) -> None:
    from mnist_trials.events import CheckpointSaved
    from tests.plugins.backends.jax_models import Linen

    straight = lab.fit(Linen, lab.context(mesh=(2, 1)), max_length=mt.Batch(20), checkpoint_period=mt.Batch(9))
    uuid = straight.channel.of(CheckpointSaved)[0].checkpoint.uuid
    resumed = lab.fit(Linen, lab.context(mesh=(2, 1), checkpoints=[uuid]), max_length=mt.Batch(20))
    assert same(resumed.weights, straight.weights)
