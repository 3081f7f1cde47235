"""`mt.load_trial`: a trial from a checkpoint of any name, those that only the store can find included."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_trials.errors import UsageError
from mnist_trials.experiment.home import resolve_home
from mnist_trials.experiment.named_checkpoints import NamedCheckpoint, fetched, find

if TYPE_CHECKING:
    from mnist_trials.plugin import Channel
    from mnist_trials.training.trial import Trial


def load_trial(
    checkpoint: str | Path,
    trial_class: type[Trial] | None = None,
    *,
    backend: str = "cpu",
    data_root: str | Path | None = None,
    channel: Channel | None = None,
) -> Trial:
    """Rebuild a trial with its hyperparameters, weights and own state, its `model` in eval mode. Nothing is unpickled.

    As `mnist_trials.training.loading.load_trial`, which says more, and finds besides what the store of the home
    (MNIST_TRIALS_HOME) knows, in whichever storage its experiment has put it.

    Args:
        checkpoint: its folder, its URL (such as s3://bucket/prefix/ID), or its id or the beginning of that.
        trial_class: the class to make the trial from. Default: the one that the checkpoint names.
        backend: on what to put the model: "cpu" or "cuda".
        data_root: where data sets lie, for `evaluate`.
        channel: who is told of notices; nobody by default.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
        UsageError: it was given up by the checkpoint policy.
        TrialError: the class cannot be found, or its model is another than that of the checkpoint.
        PluginError: its storage, the device, or the precision of the training on it, is not to be had here.
    """
    from mnist_trials.training import loading

    home, named = resolve_home(), _find(checkpoint)
    if named is None or named.row is None:
        return loading.load_trial(checkpoint, trial_class, backend=backend, data_root=data_root, channel=channel)
    with fetched(home, named) as (folder, _):
        return loading.load_trial(folder, trial_class, backend=backend, data_root=data_root, channel=channel)


def _find(checkpoint: str | Path) -> NamedCheckpoint | None:
    with suppress(UsageError):  # without a store there are folders and URLs
        return find(resolve_home(), str(checkpoint))
    return None
