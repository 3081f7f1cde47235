"""A trial's torch model and optimizers: built, checked, and given the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from mnist_trials.checkpoint import CheckpointContent
from mnist_trials.errors import TrialError
from mnist_trials.plugin import Execution
from mnist_trials.training.context import TrialContext
from mnist_trials.training.trial import Trial


def prepare_model(trial: Trial, context: TrialContext) -> torch.nn.Module:
    """Build the trial's model and bring it to the device; `trial.model` is it from then on.

    Raises:
        TrialError: `build_model` returned no module, or a sharding rule cannot be followed.
    """
    built = trial.build_model()
    if isinstance(built, torch.nn.Module):
        model: torch.nn.Module = built
    elif isinstance(built, Mapping) and built and all(isinstance(m, torch.nn.Module) for m in built.values()):
        model = torch.nn.ModuleDict(dict(built))
    else:
        raise TrialError(
            f"build_model must return a torch.nn.Module, or a dict of named ones; it returned {type(built).__name__}. "
            "(A model in JAX or Flax trains with `backend: jax`.)"
        )
    rules, tensor_ranks = trial.sharding_rules(), context.planned_mesh.tensor
    if tensor_ranks > context.mesh.tensor:
        context.execution.check_rules(model, rules, tensor_ranks)
    trial._model = model = context.execution.prepare(model, rules)
    return model


def weights_of(content: CheckpointContent) -> dict[str, Any]:
    """Parameters and buffers by name, and what modules keep beside them (`get_extra_state`)."""
    return {**content.model, **content.state.get("model_extra", {})}


def load_weights(model: torch.nn.Module, weights: Mapping[str, Any], execution: Execution) -> None:
    """Load parameters, buffers and extra state, all of them; of each tensor what this rank holds of it.

    Raises:
        TrialError: names or shapes differ; the text says which.
    """
    held = {name: execution.part(weights[name], like) for name, like in _of_one_shape(model, weights)}
    try:
        model.load_state_dict({**weights, **held})
    except RuntimeError as error:
        raise TrialError(
            f"The checkpoint's weights do not fit the model that build_model() makes now: {error}"
        ) from error


def _of_one_shape(model: torch.nn.Module, weights: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of `model` that `weights` has in the same shape. The others are an error that torch tells."""
    for name, like in model.state_dict().items():
        saved = weights.get(name)
        if isinstance(saved, torch.Tensor) and isinstance(like, torch.Tensor) and saved.shape == like.shape:
            yield name, like


def named_optimizers(built: object) -> dict[str, torch.optim.Optimizer]:
    """What `build_optimizer` returned, by name.

    Raises:
        TrialError: it is neither an optimizer nor a dict of them.
    """
    named = built if isinstance(built, Mapping) else {"optimizer": built}
    if not named or not all(isinstance(optimizer, torch.optim.Optimizer) for optimizer in named.values()):
        raise TrialError(
            "build_optimizer must return a torch optimizer, or a dict of named ones; it returned "
            f"{type(built).__name__}."
        )
    return dict(named)
