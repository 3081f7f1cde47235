"""A model brought to all ranks: the same values, then split as the layout and the rules have it."""

from __future__ import annotations

from itertools import chain

from torch import nn

from mnist_trials.plugin import Rules
from mnist_trials_plugins.backends._torch.alike import make_alike, require_same_model
from mnist_trials_plugins.backends._torch.team import Team


def spread(model: nn.Module, rules: Rules, team: Team) -> None:
    """Make `model` the one of rank 0, and leave of it on each rank what that rank holds. A collective.

    Raises:
        TrialError: the ranks have built different models, or a rule cannot be followed.
    """
    require_same_model(model, team)
    make_alike(chain(model.parameters(), model.buffers()), team)
    if team.mesh is None:
        return
    from mnist_trials_plugins.backends._torch.rules import resolve
    from mnist_trials_plugins.backends._torch.splitting import shard_data, split_tensors

    layout = team.layout
    if layout.mesh.tensor > 1:
        split_tensors(model, resolve(rules, model, layout.mesh.tensor), team.mesh["tensor"])
    if layout.shard and layout.mesh.data > 1:
        shard_data(units(model), team.mesh["data"])


def units(model: nn.Module) -> list[nn.Module]:
    """The modules that are called: `model`, or each of those that a ModuleDict holds."""
    return list(model.values()) if isinstance(model, nn.ModuleDict) else [model]
