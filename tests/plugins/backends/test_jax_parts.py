"""What the backend `jax` tells of a trial without training it, and the parts of its steps."""

from __future__ import annotations

from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.plugin import PARTS, Lowered, Refused
from mnist_trials.plugin.inspection import layer_of
from tests.plugins.backends.jax_lab import JaxLab, in_jax


def opened(lab: JaxLab, trial: Any, **hparams: Any) -> tuple[Any, Any, Any]:
    """A session that is not run, and a batch of either data set with its size."""
    from mnist_trials.training.inspection.inspect import open_session

    context = lab.context(hparams, test_mode=True)
    session = open_session(trial(context), context)
    return session, next(session.stream.batches())[:2], next(session.validation.open(0, 0))[:2]


@in_jax
def test_layers_of_a_linen_model_have_shapes_and_those_of_functions_their_parameters(lab: JaxLab) -> None:
    from mnist_trials.training.inspection import inspect_trial
    from tests.plugins.backends import jax_models

    context = lab.context()
    linen = inspect_trial(jax_models.Linen(context), context)
    shapes = [(layer.kind, layer.inputs, layer.outputs, layer.calls) for layer in linen.layers]
    assert shapes == [("Dense", [(8, 16)], [(8, 8)], 1), ("Dense", [(8, 8)], [(8, 3)], 1)]
    assert linen.parameters == linen.trainable == 163
    context = lab.context()
    pure = inspect_trial(jax_models.Pure(context), context)
    assert [(layer.name, layer.kind) for layer in pure.layers] == [
        ("hidden", "bias 8, weight 16x8"),
        ("out", "bias 3, weight 8x3"),
    ]
    assert pure.training.operations["dot_general"] == 2 + 3  # the images want no gradient
    assert pure.evaluation.operations["dot_general"] == 2
    assert pure.training.flops > pure.evaluation.flops > 2 * 8 * (16 * 8 + 8 * 3)
    assert pure.training.bytes > pure.evaluation.bytes > 0


@in_jax
def test_an_error_in_a_linen_module_names_it(lab: JaxLab) -> None:
    import jax.numpy as jnp
    from flax import linen

    from mnist_trials.training.inspection import inspect_trial
    from tests.plugins.backends import jax_models

    class Odd(linen.Module):
        @linen.compact
        def __call__(self, images: Any) -> Any:
            weight = self.param("weight", linen.initializers.ones, (16, 3))
            return images @ weight if self.is_initializing() else jnp.dot(images, weight.T)

    class Wrong(jax_models.Pure):
        def build_model(self) -> Any:
            return Odd()

    context = lab.context()
    with pytest.raises(Exception, match=r"contracting|incompatible|dot") as raised:
        inspect_trial(Wrong(context), context)
    assert layer_of(raised.value) == "It was raised in the model itself (Odd), which was given 8 x 16."


@in_jax
def test_an_exported_step_gives_the_weights_that_training_gives(lab: JaxLab) -> None:
    import jax.export
    import numpy as np

    from tests.plugins.backends import jax_models

    session, (batch, size), (examined, of_them) = opened(lab, jax_models.Pure, momentum=0.9)
    learner = session.learning.learner
    made = {one.name: one for one in learner.lowered(batch, size, examined, of_them, ("cpu", "cuda", "tpu"))}
    assert list(made) == list(PARTS)
    assert all(isinstance(one, Lowered) for one in made.values()), made
    step = made["train_step"]
    exported = jax.export.deserialize(bytearray(step.artefact))
    images, labels = (np.asarray(table)[batch.rows] for table in batch.tables)
    before = {f"state.weights.{name}": np.asarray(value) for name, value in learner.weights().items()}
    given = {
        "batch.0": images,
        "batch.1": labels.astype(np.int32),
        "key": np.zeros(2, np.uint32),
        "learning_rate": np.float32(0.1),
        **before,
    }
    rest = {name: np.zeros(kind.shape, kind.dtype) for name, kind in step.inputs.items() if name not in given}
    after = exported.call({**rest, **given})
    learner.learn([batch], [size], 0, 0)
    for name, value in learner.weights().items():
        np.testing.assert_allclose(after[f"state.weights.{name}"], value.numpy(), rtol=1e-5, atol=1e-6)


@in_jax
def test_a_part_that_cannot_be_lowered_is_refused_and_the_others_are_made(lab: JaxLab) -> None:
    from tests.plugins.backends import jax_models

    class Peeking(jax_models.Pure):
        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            metrics = super().evaluate_batch(batch, batch_idx)
            return {name: float(value) for name, value in metrics.items()}

    session, (batch, size), (examined, of_them) = opened(lab, Peeking)
    made = {one.name: one for one in session.learning.learner.lowered(batch, size, examined, of_them, ("cpu",))}
    assert {name for name, one in made.items() if isinstance(one, Refused)} == {"forward_eval", "evaluation"}
    assert "float" in made["evaluation"].reason


@in_jax
def test_looking_into_a_trial_changes_nothing_of_it(lab: JaxLab) -> None:
    import torch

    from tests.plugins.backends import jax_models

    plain = lab.fit(jax_models.Pure, max_length=mt.Batch(3))
    session, (batch, size), (examined, of_them) = opened(lab, jax_models.Pure)
    learner = session.learning.learner
    before = learner.weights()
    learner.inspected(batch, size, examined, of_them)
    assert all(torch.equal(before[name], value) for name, value in learner.weights().items())
    assert set(before) == set(plain.weights)
