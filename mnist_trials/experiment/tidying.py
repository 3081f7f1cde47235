"""Leaving the storage of an experiment as it should be, when no controller is at work in it."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from random import SystemRandom
from typing import Final

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import PluginError, UsageError
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.in_use import is_read
from mnist_trials.experiment.keeping import Keeper
from mnist_trials.experiment.lock import controller_lock
from mnist_trials.experiment.machinery import Workshop
from mnist_trials.experiment.removal import PATIENCE_SECONDS, Upkeep
from mnist_trials.experiment.strays import Strays
from mnist_trials.experiment.trials import Trials
from mnist_trials.plugin import CheckpointStorage, get_plugins
from mnist_trials.store import Reader, Store

OTHERS_SECONDS: Final = 3 * PATIENCE_SECONDS
"""After so long at the storages of other experiments, which may all be down, the rest is left to the next one."""


def storage_of(reader: Reader, experiment_id: int) -> CheckpointStorage:
    """The storage of an experiment.

    Raises:
        PluginError: it cannot be used here.
    """
    experiment, files = reader.experiment(experiment_id), ExperimentFiles(reader.home, experiment_id)
    workshop = Workshop(get_plugins(), ExperimentConfig.from_dict(experiment.config), experiment.options)
    return workshop.storage(files.checkpoints)


def tidy(store: Store, reader: Reader, experiment_id: int) -> None:
    """Of an experiment whose trials have all ended: verify, give up and delete checkpoints, as far as that can be done.

    The lock must be held.
    """
    files = ExperimentFiles(reader.home, experiment_id)
    try:
        storage = storage_of(reader, experiment_id)
    except PluginError:  # all stays on record as it is
        return
    keeper = Keeper(experiment_id, ExperimentConfig.from_dict(reader.experiment(experiment_id).config), Trials())
    with store.transaction() as transaction:
        keeper.review(transaction)
    with closing(Upkeep(storage, lambda uuid: is_read(files, uuid))) as upkeep:
        upkeep.verifier.put(keeper.unverified())
        upkeep.verifier.drain(PATIENCE_SECONDS)
        with store.transaction() as transaction:
            for trial_id, message in keeper.verified(transaction, upkeep.verifier.done()):
                transaction.add_notice(experiment_id, trial_id, message)
            keeper.review(transaction)
        upkeep.remover.put(row.uuid for row in reader.checkpoints(experiment_id) if row.state == "DELETING")
        upkeep.remover.drain(PATIENCE_SECONDS)
        with store.transaction() as transaction:
            transaction.checkpoints_deleted(uuid for uuid, _ in upkeep.remover.done())


def tidy_what_others_left(store: Store, reader: Reader) -> None:
    """Do for experiments of this home that have ended what they could not do themselves, as far as that can be done.

    In any order, so that those whose storage is gone for good do not keep it from the others for ever.
    """
    began, untidy = time.monotonic(), reader.ended_untidily()
    for number, experiment_id in enumerate(SystemRandom().sample(untidy, len(untidy))):
        if number and time.monotonic() - began >= OTHERS_SECONDS:
            return
        lock = ExperimentFiles(reader.home, experiment_id).lock
        with suppress(UsageError, OSError), controller_lock(lock, experiment_id):  # else somebody is at it
            tidy(store, reader, experiment_id)


def remove_strays(store: Store, reader: Reader, experiment_id: int, storage: CheckpointStorage) -> None:
    """Remove what cut-off saves left in `storage`, as far as that can be done, and tell of it. No run may be open."""
    strays = Strays(reader, experiment_id, storage)
    message = str(strays)
    if left := strays.remove():
        message = f"{message} ({left} could not be removed now)"
    if message:
        with store.transaction() as transaction:
            transaction.add_notice(experiment_id, None, message)
