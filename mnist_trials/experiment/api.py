"""What the command line and Python do with experiments: create, run, command, go on, delete.

Every function takes `home` (None: MNIST_TRIALS_HOME, or ~/.mnist-trials) and raises StoreError when it cannot be used
and UsageError for an experiment that is not there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, final

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import MnistTrialsError, UsageError
from mnist_trials.experiment import background, forking, life, recovery, submission
from mnist_trials.experiment.bringing import remove_source
from mnist_trials.experiment.home import ExperimentFiles, resolve_home
from mnist_trials.experiment.lock import controller_lock, is_locked
from mnist_trials.experiment.machinery import Workshop
from mnist_trials.experiment.recovery import Plan
from mnist_trials.experiment.strays import OWNER, find_strays
from mnist_trials.experiment.warm_start import Source, experiments_starting_from
from mnist_trials.plugin import Logger, get_plugins
from mnist_trials.records import ExperimentState, Mode
from mnist_trials.store import Store, open_reader, open_store
from mnist_trials.store.rows import ExperimentRow, TrialRow
from mnist_trials.store.summary import best_trial


@final
class NoController(UsageError):
    """A controller is asked for something and there is none."""


Command = Literal["pause", "activate", "cancel", "kill"]
Home = str | Path | None

_LOOK_SECONDS = 0.1  # how often `wait` looks
_HEARING_SECONDS = 5.0  # how long `request` waits for the controller to take note
_HEARING_LOOK_SECONDS = 0.02


def submit(
    config: str | Path | Mapping[str, Any],
    context: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    launcher: str | None = None,
    slots: submission.Slots | None = None,
    data_root: str | Path | None = None,
    name: str | None = None,
    test: bool = False,
    mode: Mode = "train_and_eval",
    checkpoint: str | None = None,
    home: Home = None,
) -> int:
    """Check everything, snapshot the code, and store a new experiment (ACTIVE, not running yet); returns its id.

    Args:
        config: a path to a YAML file, or the config as a mapping.
        context: the folder of the entrypoint's code; by default the config file's folder, or the working directory.
        overrides: `a.b=VALUE`, as `--config` takes them.
        launcher: a launcher's name in place of the config's.
        slots: how many slots this machine offers to the experiment; "auto": all, and each trial takes as many as are
            offered, each batch split over them.
        data_root: where the data set lies.
        name: a name in place of the config's.
        test: one batch, one validation, one checkpoint, restored; no restarts.
        mode: `train` validates only where the searcher judges a trial; `eval` trains nothing, and validates the
            checkpoint that the experiment starts from.
        checkpoint: the checkpoint (its id, folder or URL) to go on from, or to evaluate: `resume.from` of the config.
        home: where it is stored.

    The config's warnings and what else is to be said are kept as the experiment's notices.

    Raises:
        ConfigError: mistakes in the config, all of them, with positions; nothing was stored.
        UsageError: context, data_root or slots cannot be had so; nothing was stored.
    """
    checked = submission.check(
        config,
        context,
        overrides=overrides,
        launcher=launcher,
        slots=slots,
        data_root=data_root,
        name=name,
        test=test,
        mode=mode,
        checkpoint=checkpoint,
        home=home,
    )
    return submission.store_new(resolve_home(home), checked)


def submit_fork(
    experiment_id: int,
    *,
    overrides: Sequence[str] = (),
    launcher: str | None = None,
    slots: submission.Slots | None = None,
    data_root: str | Path | None = None,
    name: str | None = None,
    test: bool = False,
    home: Home = None,
) -> int:
    """As `submit`, with the config, the code and the options that experiment `experiment_id` was submitted with.

    What is given here comes on top, `overrides` after those given then; only `test` counts for one experiment alone.
    The new one starts from the beginning, unless `searcher.source_trial_id` is set.
    """
    folder = resolve_home(home)
    checked = forking.check_fork(
        folder,
        experiment_id,
        overrides=overrides,
        launcher=launcher,
        slots=slots,
        data_root=data_root,
        name=name,
        test=test,
    )
    return submission.store_new(folder, checked)


def run(experiment_id: int, *, home: Home = None, followers: Sequence[Logger] = ()) -> dict[str, Any]:
    """Become the experiment's controller until it ends or is paused; returns the summary (`Reader.summary`).

    A new experiment is started; one that was paused, or whose controller died, goes on. One that has ended is left as
    it is. `followers` see what is stored, from this thread. In the main thread SIGINT and SIGTERM pause: once saves
    every trial's state, twice kills the workers; either way the state afterwards is PAUSED and no exception is raised.

    Raises:
        UsageError: another process is its controller.
        PluginError: a plugin that it needs is not there any more.
        StoreError: the store became unusable (disk full); the workers were killed, `run` goes on once there is space.
    """
    return life.take_charge(resolve_home(home), experiment_id, followers)


def request(experiment_id: int, command: Command, *, home: Home = None) -> None:
    """Ask the controller to pause, activate (take a pause back), cancel (saves first) or kill.

    Returns when the controller has taken note, after a few seconds at most; it acts in its own time. Without a live
    controller, or where it ends before it takes note, pause, cancel and kill are done here and now: the leftovers of a
    dead controller are ended and the state is set.

    Raises:
        UsageError: the experiment has ended.
        NoController: `activate` is asked for and no controller is alive (call `run` or `detach`).
    """
    folder = resolve_home(home)
    _require_unended(_row(folder, experiment_id), command)
    lock = ExperimentFiles(folder, experiment_id).lock
    if is_locked(lock):
        with open_store(folder) as store:
            with store.transaction() as transaction:
                number = transaction.add_command(experiment_id, command)
            if _is_heard(store, lock, experiment_id, number):
                return
        _require_unended(_row(folder, experiment_id), command)
    if command == "activate":
        raise NoController(f"Experiment {experiment_id} has no controller that could be asked; start one.")
    with controller_lock(lock, experiment_id), open_store(folder) as store, open_reader(folder) as reader:
        _require_unended(reader.experiment(experiment_id), command)
        paused = command == "pause"
        state = ExperimentState.PAUSED if paused else ExperimentState.CANCELED
        message = {"pause": "", "cancel": "cancelled", "kill": "killed"}[command]
        recovery.settle(store, reader, experiment_id, state, message)


def _is_heard(store: Store, lock: Path, experiment_id: int, number: int) -> bool:
    """Whether the controller takes command `number`; False where it ended without."""
    deadline = time.monotonic() + _HEARING_SECONDS
    while time.monotonic() < deadline:
        in_charge = is_locked(lock)  # asked first: it may take the command and end in between
        if all(waiting != number for waiting, _ in store.waiting_commands(experiment_id)):
            return True
        if not in_charge:
            return False
        time.sleep(_HEARING_LOOK_SECONDS)
    return True  # it is busy, with a trial in its own process perhaps, and will hear


def plan(experiment_id: int, *, home: Home = None) -> Plan:
    """What `run` would do now; changes nothing. `str(plan)` is for a person, `plan.to_json()` strict JSON."""
    with open_reader(resolve_home(home)) as reader:
        return recovery.make_plan(reader, experiment_id)


def delete(experiment_id: int, *, home: Home = None) -> None:
    """Remove an experiment: its checkpoints, files and rows. Cut off, it can be called again.

    Raises:
        UsageError: a controller runs it, or the trials of another that has not ended start from one of its checkpoints.
        CheckpointError: a checkpoint could not be removed; the experiment is still there.
    """
    folder = resolve_home(home)
    row = _row(folder, experiment_id)
    files = ExperimentFiles(folder, experiment_id)
    with controller_lock(files.lock, experiment_id), open_store(folder) as store, open_reader(folder) as reader:
        if users := [str(user.id) for user in experiments_starting_from(reader, experiment_id)]:
            which = f"experiment {users[0]}" if len(users) == 1 else f"experiments {', '.join(users)}"
            raise UsageError(
                f"The trials of {which}, not ended yet, start from a checkpoint of experiment {experiment_id}; let it "
                "end, or cancel it, first."
            )
        recovery.clear_leftovers(reader, experiment_id)
        workshop = Workshop(get_plugins(), ExperimentConfig.from_dict(row.config), row.options)
        storage = workshop.storage(files.checkpoints)
        known = reader.checkpoints(experiment_id)
        for stray in find_strays(storage, row.options.get(OWNER, ""), {checkpoint.uuid for checkpoint in known}):
            storage.delete(stray)
        for checkpoint in known:
            if checkpoint.state != "DELETED":
                storage.delete(checkpoint.uuid)
        remove_source(files, Source.of(row.options), storage)
        shutil.rmtree(files.checkpoints, ignore_errors=True)
        # The rows go last: as long as they are there, this can be called again.
        shutil.rmtree(files.directory, ignore_errors=True)
        with store.transaction() as transaction:
            transaction.delete_experiment(experiment_id)


def detach(experiment_id: int, *, home: Home = None) -> str:
    """Start a controller in the background; returns what to call it (`process 123`) once it is in charge.

    What it prints goes to HOME/experiments/<id>/controller.log, unless the launcher runs it elsewhere. It survives
    this process and its terminal.

    Raises:
        UsageError: another process is its controller, or the new one could not take charge (the text has its words).
    """
    folder = resolve_home(home)
    row = _row(folder, experiment_id)
    _require_unended(row, "activate")
    return background.start(folder, row)


def is_alive(experiment_id: int, *, home: Home = None) -> bool:
    """Whether a controller is in charge right now."""
    return is_locked(ExperimentFiles(resolve_home(home), experiment_id).lock)


def wait(experiment_id: int, *, home: Home = None, timeout: float | None = None) -> dict[str, Any]:
    """Wait until no controller is in charge any more; returns the summary.

    The state in it is ACTIVE if the controller died (`run` goes on).

    Raises:
        TimeoutError: it is still running after `timeout` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with open_reader(resolve_home(home)) as reader:
        reader.experiment(experiment_id)
        while is_alive(experiment_id, home=home):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Experiment {experiment_id} is still running after {timeout} seconds.")
            time.sleep(_LOOK_SECONDS)
        return reader.summary(experiment_id)


def create(
    config: str | Path | Mapping[str, Any],
    context: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    launcher: str | None = None,
    slots: submission.Slots | None = None,
    data_root: str | Path | None = None,
    name: str | None = None,
    test: bool = False,
    mode: Mode = "train_and_eval",
    checkpoint: str | None = None,
    home: Home = None,
) -> Experiment:
    """Submit an experiment (see `submit`) and start it in the background.

    With the launcher `inline` it runs in this very process and has ended when this returns.
    """
    experiment_id = submit(
        config,
        context,
        overrides=overrides,
        launcher=launcher,
        slots=slots,
        data_root=data_root,
        name=name,
        test=test,
        mode=mode,
        checkpoint=checkpoint,
        home=home,
    )
    experiment = Experiment(experiment_id, home)
    experiment.activate()
    return experiment


@final
class Experiment:
    """An experiment of a home. Holds nothing open; every property is read anew."""

    def __init__(self, experiment_id: int, home: Home = None) -> None:
        self.id = experiment_id
        self._home = resolve_home(home)

    @property
    def state(self) -> str:
        """ACTIVE, PAUSED, STOPPING, COMPLETED, CANCELED or ERROR."""
        return _row(self._home, self.id).state.value

    @property
    def trials(self) -> list[TrialRow]:
        """Its trials by id."""
        with open_reader(self._home) as reader:
            return reader.trials(self.id)

    @property
    def best(self) -> TrialRow | None:
        """The trial with the best validation so far."""
        return best_trial(_row(self._home, self.id), self.trials)

    def summary(self) -> dict[str, Any]:
        """What `describe --json` prints."""
        with open_reader(self._home) as reader:
            return reader.summary(self.id)

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait until it ends or is paused; returns the summary.

        Raises:
            TimeoutError: it is still running after `timeout` seconds.
            MnistTrialsError: its controller died; `activate` goes on.
        """
        summary = wait(self.id, home=self._home, timeout=timeout)
        if summary["state"] in (ExperimentState.ACTIVE, ExperimentState.STOPPING):
            log = ExperimentFiles(self._home, self.id).controller_log
            raise MnistTrialsError(
                f"The controller of experiment {self.id} died; {log} may say why. `.activate()` goes on."
            )
        return summary

    def pause(self) -> None:
        """Save every trial's state and stop."""
        request(self.id, "pause", home=self._home)

    def activate(self) -> None:
        """Go on after a pause, a crash or a reboot."""
        if is_alive(self.id, home=self._home):
            with suppress(NoController):  # it ended just now
                request(self.id, "activate", home=self._home)
                return
        if _row(self._home, self.id).config["launcher"] in ("inline", {"name": "inline"}):
            run(self.id, home=self._home)
        else:
            detach(self.id, home=self._home)

    def cancel(self) -> None:
        """Save every trial's state and end."""
        request(self.id, "cancel", home=self._home)

    def kill(self) -> None:
        """End at once."""
        request(self.id, "kill", home=self._home)

    def fork(
        self,
        *,
        overrides: Sequence[str] = (),
        launcher: str | None = None,
        slots: submission.Slots | None = None,
        data_root: str | Path | None = None,
        name: str | None = None,
        test: bool = False,
    ) -> Experiment:
        """A new experiment from the config and the code of this one (see `submit_fork`), started as `create` does."""
        experiment_id = submit_fork(
            self.id,
            overrides=overrides,
            launcher=launcher,
            slots=slots,
            data_root=data_root,
            name=name,
            test=test,
            home=self._home,
        )
        fork = Experiment(experiment_id, self._home)
        fork.activate()
        return fork


def _row(home: Path, experiment_id: int) -> ExperimentRow:
    with open_reader(home) as reader:
        return reader.experiment(experiment_id)


def _require_unended(row: ExperimentRow, command: str) -> None:
    if row.state.ended:
        raise UsageError(f"Experiment {row.id} has ended ({row.state}); there is nothing to {command}.")
