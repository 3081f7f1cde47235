"""Taking charge of an experiment: lock, leftovers, plugins, then the controller."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, final

from mnist_trials.clock import Clock, SystemClock
from mnist_trials.config import ExperimentConfig
from mnist_trials.config.secrets import without_secrets
from mnist_trials.errors import CheckpointError
from mnist_trials.experiment.bringing import remove_source
from mnist_trials.experiment.controller import Controller
from mnist_trials.experiment.decisions import Decisions
from mnist_trials.experiment.disk import DiskWatch, folder_of
from mnist_trials.experiment.followers import Followers
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.in_use import is_read
from mnist_trials.experiment.keeping import Keeper
from mnist_trials.experiment.leases import Leases
from mnist_trials.experiment.ledger import Ledger
from mnist_trials.experiment.lock import controller_lock
from mnist_trials.experiment.machinery import Machinery, Workshop
from mnist_trials.experiment.placement import Placement
from mnist_trials.experiment.recovery import (
    clear_leftovers,
    load_trials,
    remove_orphans,
    settle,
)
from mnist_trials.experiment.removal import Upkeep
from mnist_trials.experiment.replay import bring_back
from mnist_trials.experiment.search import Search
from mnist_trials.experiment.slots import concurrency
from mnist_trials.experiment.strays import Strays
from mnist_trials.experiment.tidying import remove_strays, tidy_what_others_left
from mnist_trials.experiment.trial_events import TrialEvents
from mnist_trials.experiment.trials import Trials
from mnist_trials.experiment.warm_start import Source
from mnist_trials.experiment.workers import DEFAULT_TARGET, SpecMaker
from mnist_trials.plugin import Logger, get_plugins, python_of
from mnist_trials.plugin.logger import LoggerContext
from mnist_trials.records import ExperimentState
from mnist_trials.store import Reader, Store, open_reader, open_store
from mnist_trials.store.rows import ExperimentRow


def take_charge(
    home: Path,
    experiment_id: int,
    followers: Sequence[Logger] = (),
    *,
    target: str = DEFAULT_TARGET,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Be the controller of an experiment until it ends or is paused; returns its summary. See `api.run`.

    `target` is the function that workers call (see `WorkerSpec.target`).
    """
    files = ExperimentFiles(home, experiment_id)
    with open_reader(home) as reader:
        experiment = reader.experiment(experiment_id)
        if experiment.state is ExperimentState.STOPPING:
            _finish_cancelling(files, reader)
        elif not experiment.state.ended:
            stale_command = reader.last_command()
            # Before the lock: who waits for it to be taken may take that as a good beginning.
            config = ExperimentConfig.from_dict(experiment.config)
            machinery = Workshop(get_plugins(), config, experiment.options).machinery(files.checkpoints)
            with (
                closing(machinery.launcher),
                controller_lock(files.lock, experiment_id),
                open_store(home, clock) as store,
            ):
                charge = _Charge(files, store, reader, experiment, config, machinery, clock or SystemClock())
                charge.run(followers, target, stale_command)
        return reader.summary(experiment_id)


def _finish_cancelling(files: ExperimentFiles, reader: Reader) -> None:
    with controller_lock(files.lock, files.experiment_id), open_store(files.home) as store:
        settle(store, reader, files.experiment_id, ExperimentState.CANCELED, "cancelled")


@final
class _Charge:
    """Puts a controller together for one experiment."""

    def __init__(
        self,
        files: ExperimentFiles,
        store: Store,
        reader: Reader,
        experiment: ExperimentRow,
        config: ExperimentConfig,
        machinery: Machinery,
        clock: Clock,
    ) -> None:
        self._files = files
        self._store = store
        self._reader = reader
        self._experiment = experiment
        self._config = config
        self._machinery = machinery
        self._clock = clock

    def run(self, given: Sequence[Logger], target: str, stale_command: int) -> None:
        """Run the controller; the followers see it from before its start to its summary."""
        config, machinery = self._config, self._machinery
        files, experiment_id = self._files, self._experiment.id
        # Another controller may have been there while the lock was waited for.
        state = self._reader.experiment(experiment_id).state
        if state.ended:
            return
        if state is ExperimentState.STOPPING:
            settle(self._store, self._reader, experiment_id, ExperimentState.CANCELED, "cancelled")
            return
        search = Search(machinery.searcher, config)
        bring_back(search, self._reader, experiment_id)  # first: if it fails, nothing has been touched
        clear_leftovers(self._reader, experiment_id)
        followers = Followers([*machinery.loggers, *given], self._note)
        trials = load_trials(self._reader, experiment_id, config)
        decisions = Decisions(experiment_id, config, search, trials, followers)
        keeper, storage = Keeper(experiment_id, config, trials), machinery.storage
        upkeep = Upkeep(storage, lambda uuid: is_read(files, uuid))
        disks = DiskWatch(dict.fromkeys([files.home, *folder_of(storage)]))
        restarts = 0 if self._experiment.options.get("test") else config.max_restarts
        controller = Controller(
            experiment_id=experiment_id,
            store=self._store,
            ledger=Ledger(self._store, experiment_id, search, keeper, upkeep, self._clock),
            search=search,
            trials=trials,
            decisions=decisions,
            events=TrialEvents(experiment_id, config, trials, decisions, followers, keeper, restarts),
            followers=followers,
            launcher=machinery.launcher,
            specs=SpecMaker(
                files=files,
                document=self._experiment.config,
                options=self._experiment.options,
                per_rank=config.entrypoint.per_rank,
                backend=machinery.backend,
                python=python_of(config.backend.name, config.backend.options),
                target=target,
            ),
            placement=self._placement(trials, followers),
            upkeep=upkeep,
            disks=disks,
            clock=self._clock,
        )
        followers.start(
            LoggerContext(
                experiment_id=experiment_id,
                name=self._experiment.name,
                config=without_secrets(self._experiment.config),
                directory=self._logger_files(),
            )
        )
        with closing(upkeep), closing(disks):
            upkeep.remover.put([*self._given_up(), *self._strays_of_the_last_one()])
            controller.run(stale_command)
        remove_orphans(self._reader, experiment_id)
        self._remove_source()
        remove_strays(self._store, self._reader, experiment_id, storage)
        tidy_what_others_left(self._store, self._reader)
        followers.finish(self._reader.summary(experiment_id))

    def _remove_source(self) -> None:
        """Remove this experiment's own copy of what it started from, when it has ended."""
        if self._reader.experiment(self._experiment.id).state.ended:
            with suppress(CheckpointError):  # `delete` removes it too
                remove_source(self._files, Source.of(self._experiment.options), self._machinery.storage)

    def _given_up(self) -> list[str]:
        """What an earlier controller was to delete."""
        rows = self._reader.checkpoints(self._experiment.id)
        return [row.uuid for row in rows if row.state == "DELETING"]

    def _strays_of_the_last_one(self) -> list[str]:
        """What an earlier controller was killed before it could remove, if one was; to be asked before any run."""
        if not self._reader.open_runs(self._experiment.id):
            return []
        strays = Strays(self._reader, self._experiment.id, self._machinery.storage)
        if message := str(strays):
            self._note(message)
        return strays.found

    def _placement(self, trials: Trials, followers: Followers) -> Placement:
        offer = self._machinery.offer
        shared = None if offer.units is None else Leases(self._files.home, self._experiment.id, offer.units)
        return Placement(
            offer=offer,
            leases=shared,
            concurrency=concurrency(self._config),
            trials=trials,
            store=self._store,
            followers=followers,
            clock=self._clock,
        )

    def _note(self, message: str) -> None:
        with self._store.transaction() as transaction:
            transaction.add_notice(self._experiment.id, None, message)

    def _logger_files(self) -> Path:
        self._files.logger_files.mkdir(parents=True, exist_ok=True)
        return self._files.logger_files
