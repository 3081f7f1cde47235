"""Training on the backend `jax`: against torch, over portions, short batches, saved and resumed."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.errors import NonFiniteLoss
from mnist_trials.events import CheckpointSaved, MetricsReported, ValidationCompleted
from tests.plugins.backends.jax_lab import JaxLab, in_jax
from tests.training.lab import Lab, Run, same, samples

NAMES = {
    "1.weight": "params.hidden.weight",
    "1.bias": "params.hidden.bias",
    "3.weight": "params.out.weight",
    "3.bias": "params.out.bias",
}


def torch_and_jax(lab: JaxLab, hparams: dict[str, Any], **arguments: Any) -> tuple[Any, Run]:
    """The same training, from the same weights, on the backends `cpu` and `jax`."""
    from tests.plugins.backends import jax_models

    class Begun(jax_models.Pure):
        @override
        def build_model(self) -> Any:
            start = {name: value.numpy() for name, value in begun.items()}
            tree = {
                layer: {part: start[f"params.{layer}.{part}"] for part in ("weight", "bias")}
                for layer in ("hidden", "out")
            }
            return lambda key: tree, jax_models.apply

    class Start(jax_models.Torch):
        @override
        def build_model(self) -> Any:
            model = super().build_model()
            begun.update({NAMES[name]: value.detach().t().clone() for name, value in model.named_parameters()})
            return model

    begun: dict[str, torch.Tensor] = {}
    torch_lab = Lab(lab.folder / "torch")
    left = torch_lab.fit(Start, torch_lab.context(hparams), **arguments)
    return left, lab.fit(Begun, lab.context(hparams), **arguments)


def require_parity(lab: JaxLab, hparams: dict[str, Any]) -> None:
    """Weights and metrics after two epochs, each with a short batch."""
    left, right = torch_and_jax(lab, hparams, max_length=mt.Epoch(2), reporting_period=mt.Batch(5))
    for name, value in left.trial.model.named_parameters():
        torch.testing.assert_close(value.detach().t(), right.weights[NAMES[name]], atol=2e-6, rtol=1e-5)
    for name, value in left.result.metrics.items():
        assert value == pytest.approx(right.result.metrics[name], abs=1e-5)
    reported = [event.metrics["loss"] for event in left.channel.of(MetricsReported)]
    assert right.reported("loss") == pytest.approx(reported, abs=1e-5)


@in_jax
def test_it_comes_to_the_weights_and_metrics_of_torch(lab: JaxLab) -> None:
    require_parity(lab, {"momentum": 0.9})


@in_jax
def test_groups_of_batches_and_clipping_are_those_of_torch(lab: JaxLab) -> None:
    require_parity(lab, {"aggregation_frequency": 3, "max_gradient_norm": 0.3, "max_gradient_value": 0.1})


@in_jax
def test_schedules_are_those_of_torch(lab: JaxLab) -> None:
    for per in ("batch", "optimizer_step", "epoch"):
        schedule = {"name": "exponential", "gamma": 0.9 if per != "epoch" else 0.1, "per": per}
        require_parity(lab, {"lr_schedule": schedule, "aggregation_frequency": 2})


@in_jax
def test_what_is_computed_does_not_depend_on_how_batches_are_given_together(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Linen

    together = lab.fit(Linen, max_length=mt.Batch(40), reporting_period=mt.Batch(40))
    one_by_one = lab.fit(Linen, max_length=mt.Batch(40), reporting_period=mt.Batch(1))
    assert same(together.weights, one_by_one.weights)
    assert sum(one_by_one.reported("loss")) / 40 == pytest.approx(together.reported("loss")[0], rel=0.02)


@in_jax
def test_convolutions_are_not_put_into_a_loop_on_a_cpu(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Convolved, Linen

    short = lab.fit(Convolved, max_length=mt.Batch(40), reporting_period=mt.Batch(1))
    long = lab.fit(Convolved, max_length=mt.Batch(40), reporting_period=mt.Batch(40))
    assert same(long.weights, short.weights)
    assert long.trial._learner._one_by_one
    assert not lab.fit(Linen).trial._learner._one_by_one


@in_jax
def test_a_resumed_training_is_the_undisturbed_one_to_the_bit(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Convolved, Linen, Normed

    class NormedTrial(Linen):
        @override
        def build_model(self) -> Any:
            return Normed()

    hparams = {"optimizer": "adam", "learning_rate": 0.01, "aggregation_frequency": 2}
    for trial in (Linen, NormedTrial, Convolved):
        straight = lab.fit(trial, lab.context(hparams), max_length=mt.Batch(30), checkpoint_period=mt.Batch(17))
        middle = straight.channel.of(CheckpointSaved)[0].checkpoint
        assert middle.batches == 17
        resumed = lab.fit(trial, lab.context(hparams, checkpoints=[middle.uuid]), max_length=mt.Batch(30))
        assert same(resumed.weights, straight.weights)
        assert resumed.result.metrics == straight.result.metrics


@in_jax
def test_the_update_of_a_group_that_a_resume_finds_open_at_the_end_has_the_rate_of_its_last_batch(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    schedule = {"name": "exponential", "gamma": 0.7, "per": "batch"}
    hparams = {"aggregation_frequency": 4, "lr_schedule": schedule, "learning_rate": 0.5}
    ended = lab.fit(Pure, lab.context(hparams), max_length=mt.Batch(18))
    longer = lab.fit(Pure, lab.context(hparams), max_length=mt.Batch(20), checkpoint_period=mt.Batch(18))
    middle = longer.channel.of(CheckpointSaved)[0].checkpoint
    assert middle.batches == 18
    resumed = lab.fit(Pure, lab.context(hparams, checkpoints=[middle.uuid]), max_length=mt.Batch(18))
    assert same(resumed.weights, ended.weights)


@in_jax
def test_batch_statistics_change_in_training_and_are_kept(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Linen, Normed

    class NormedTrial(Linen):
        @override
        def build_model(self) -> Any:
            return Normed()

    run = lab.fit(NormedTrial, max_length=mt.Epoch(1))
    assert set(run.weights) >= {"batch_stats.BatchNorm_0.mean", "batch_stats.BatchNorm_0.var"}
    assert run.weights["batch_stats.BatchNorm_0.mean"].abs().sum() > 0
    assert any("batch_stats" in notice for notice in run.notices)  # the short batch cannot be filled up


@in_jax
def test_dropout_draws_anew_for_every_batch_and_not_at_all_in_validations(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Linen

    class Still(Linen):
        """Learns nothing, and sees the same batch again and again."""

        @override
        def build_data(self) -> Any:
            data = mt.TensorData(*samples(8))
            return data, data

    still = lab.context({"learning_rate": 0.0})
    run = lab.fit(Still, still, max_length=mt.Batch(4), reporting_period=mt.Batch(1), validation_period=mt.Batch(1))
    assert len(set(run.reported("loss"))) == 4
    assert len({event.metrics["validation_loss"] for event in run.channel.of(ValidationCompleted)}) == 1


@in_jax
def test_nothing_is_compiled_after_the_first_epoch(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Linen

    seen: list[int] = []

    class Counting(Linen):
        @override
        def build_callbacks(self) -> Any:
            execution = self.context.execution

            class Count(mt.Callback):
                @override
                def on_epoch_end(self, epoch_idx: int) -> None:
                    seen.append(execution.compilations)

            return [Count()]

    lab.fit(Counting, max_length=mt.Epoch(4), validation_period=mt.Batch(5), reporting_period=mt.Batch(3))
    assert seen[0] > 0
    assert seen[1:] == [seen[1]] * 3
    assert seen[1] - seen[0] <= 2  # a save, the first validation's short batch


@in_jax
def test_a_data_loader_gives_what_data_in_memory_does(lab: JaxLab) -> None:
    from torch.utils.data import DataLoader, TensorDataset

    from tests.plugins.backends.jax_models import Pure

    class Loaded(Pure):
        @override
        def build_data(self) -> Any:
            return DataLoader(TensorDataset(*samples()), 8, shuffle=True), TensorDataset(*samples(30, seed=1))

    memory, loaded = lab.fit(Pure, max_length=mt.Epoch(2)), lab.fit(Loaded, max_length=mt.Epoch(2))
    torch.testing.assert_close(memory.weights, loaded.weights)
    assert memory.result.metrics == pytest.approx(loaded.result.metrics)


@in_jax
def test_processes_of_data_loaders_are_forked_without_a_warning(lab: JaxLab) -> None:
    lab.context()
    if (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@in_jax
def test_a_loss_that_is_not_finite_ends_training_and_is_named(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    with pytest.raises(NonFiniteLoss, match="batch_idx 1"):
        lab.fit(Pure, lab.context({"learning_rate": 1e38}))


@in_jax
def test_batches_whose_loss_is_not_finite_can_be_left_out(lab: JaxLab) -> None:
    import jax.numpy as jnp

    from tests.plugins.backends.jax_models import Pure

    class Bad(Pure):
        @override
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
            return loss * jnp.where(batch_idx == 3, jnp.nan, 1.0)

    for frequency in (1, 2):
        run = lab.fit(Bad, lab.context({"aggregation_frequency": frequency}, {"on_nan": "skip"}))
        assert all(bool(value.isfinite().all()) for value in run.weights.values())
        assert run.reported("loss")[0] < 2
        assert [notice for notice in run.notices if "left out" in notice and "batch_idx 3" in notice]
        assert run.trial._learner.steps == {1: 9, 2: 5}[frequency]


@pytest.mark.slow
@in_jax
def test_bfloat16_is_computed_with_or_kept(lab: JaxLab) -> None:
    import jax.numpy as jnp

    from tests.plugins.backends.jax_models import Pure

    seen: list[Any] = []

    class Seeing(Pure):
        @override
        def build_model(self) -> Any:
            init, apply = super().build_model()

            def seeing(params: Any, images: Any) -> Any:
                seen.append((params["out"]["weight"].dtype, images.dtype))
                return apply(params, images)

            return init, seeing

        @override
        def inputs(self, images: Any) -> Any:
            return super().inputs(images).astype(self.model.params["out"]["weight"].dtype)

    for precision, kept in (("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16)):
        run = lab.fit(Seeing, lab.context({"momentum": 0.9}, precision=precision), max_length=mt.Epoch(4))
        assert {value.dtype for value in run.weights.values()} == {kept}
        assert {dtype for pair in seen for dtype in pair} == {jnp.dtype("bfloat16")}
        assert run.result.metrics["accuracy"] > 0.5
        context = lab.context({"momentum": 0.9}, precision=precision, checkpoints=[str(run.result.checkpoint)])
        assert same(lab.fit(Seeing, context, max_length=mt.Epoch(4)).weights, run.weights)


@in_jax
def test_the_memory_of_old_weights_is_given_to_the_new_ones(lab: JaxLab) -> None:
    import jax

    from tests.plugins.backends.jax_models import Pure

    seen: list[list[tuple[Any, int]]] = []

    class Looking(mt.Callback):
        @override
        def on_epoch_start(self, epoch_idx: int) -> None:
            leaves = jax.tree.leaves(trial_of[0]._learner._state)
            seen.append([(leaf, leaf.unsafe_buffer_pointer()) for leaf in leaves])

    trial_of: list[Any] = []

    class Watched(Pure):
        @override
        def build_callbacks(self) -> Any:
            trial_of.append(self)
            return [Looking()]

    lab.fit(Watched, lab.context({"momentum": 0.9}), max_length=mt.Epoch(4))
    assert len(seen) == 4
    assert all(leaf.is_deleted() for epoch in seen for leaf, _ in epoch)  # nothing of an earlier state is left
    places = [{place for _, place in epoch} for epoch in seen]
    assert places[2] == places[3]
