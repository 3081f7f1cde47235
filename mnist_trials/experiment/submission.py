"""Checking a new experiment as a whole, then storing it as a whole."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from mnist_trials.checkpoint.ids import new_owner
from mnist_trials.config import ExperimentConfig, Loaded, load
from mnist_trials.config.launch_layer import LAUNCH_LAYER
from mnist_trials.config.space import points
from mnist_trials.errors import CheckpointError, ConfigError, PluginError, Problem, StoreError, UsageError
from mnist_trials.experiment import interpreter, warm_start
from mnist_trials.experiment.bringing import bring_source, remove_source
from mnist_trials.experiment.entrypoint import check_entrypoint
from mnist_trials.experiment.home import ExperimentFiles, last_number, resolve_home
from mnist_trials.experiment.machinery import DEFAULT_STORAGE, Workshop
from mnist_trials.experiment.modes import named, option_of, require_checkpoint
from mnist_trials.experiment.slots import AUTO, is_one_process
from mnist_trials.experiment.snapshot import take_snapshot
from mnist_trials.experiment.staging import staging
from mnist_trials.experiment.stand_in import absence
from mnist_trials.experiment.strays import OWNER
from mnist_trials.experiment.warm_start import Source, Start, find_start
from mnist_trials.plugin import CheckpointStorage, Launcher, get_plugins
from mnist_trials.records import Mode
from mnist_trials.store import Store, Transaction, open_store

PATHS_FROM = "paths_from"
"""Where among an experiment's options it is kept at which folder the paths of its config begin."""


Slots = int | Literal["auto"]
"""How many slots a machine offers; `auto`: all of it, and each trial takes all that are offered."""


@final
@dataclass(frozen=True, slots=True)
class Submission:
    """An experiment that passed every check that can be made before it runs."""

    loaded: Loaded
    context: Path
    options: Mapping[str, Any]
    start: Start | None = None  # from which checkpoint its trials start
    absent: str | None = None  # why its device is not here, where it is not to run here

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should hear of before it runs."""
        found = _one_trial(self.loaded.config) if self.options.get("test") else _few_points(self.loaded)
        spread = (*_run_once(self.loaded), *_shards_nothing(self.loaded, self.options, self.absent))
        absent = () if self.absent is None else (f"{self.absent}; it is checked as far as that goes without.",)
        return (*self.loaded.warnings, *absent, *spread, *found)


def check(
    config: str | Path | Mapping[str, Any],
    context: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    launcher: str | None = None,
    slots: Slots | None = None,
    data_root: str | Path | None = None,
    name: str | None = None,
    test: bool = False,
    home: str | Path | None = None,
    paths_from: str | Path | None = None,
    mode: Mode = "train_and_eval",
    checkpoint: str | None = None,
    device: bool = True,
) -> Submission:
    """Everything that can be checked without running anything; stores nothing. See `api.submit`.

    A relative path of a checkpoint in the config begins at `paths_from`, by default the folder of the config. Without
    `device` it is not to run here, and no mistake that its device is not here (see `Submission.absent`).

    Raises:
        ConfigError: mistakes in the config, all of them, with positions.
        UsageError: the context, the data root or the slots cannot be had, or there is nothing to evaluate.
    """
    resume = None if checkpoint is None else {"from": named(checkpoint)}
    each = "auto" if slots == "auto" else None
    keys = (("launcher", launcher), ("name", name), ("resume", resume), ("resources.slots_per_trial", each))
    given = [f"{key}={json.dumps(value)}" for key, value in keys if value]
    changes = [*overrides, *given]
    loaded = load(config, changes)
    folder = _context(loaded, context)
    options = {**_options(None if slots == "auto" else slots, data_root, test), **option_of(mode), "overrides": changes}
    paths_from = paths_from or (Path.cwd() if loaded.path is None else loaded.path.parent.absolute())
    start, problems = _warm_start(loaded, resolve_home(home), Path(paths_from), options)
    absent = None if device else absence(get_plugins(), loaded.config.backend)
    problems += [*_not_yet(loaded), *_entrypoint(loaded, folder), *_plugins(loaded, options, absent)]
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
    require_checkpoint(mode, loaded.config, start is not None)
    if start is not None:
        options[PATHS_FROM] = str(paths_from)
    return Submission(loaded, folder, options, start, absent)


def store_new(home: Path, submission: Submission) -> int:
    """Store an experiment with the snapshot of its code; returns its id. Cut off, nothing of it is to be seen.

    Raises:
        StoreError: the home cannot be used.
        UsageError: the context cannot be copied.
        ConfigError: the checkpoint that its trials start from cannot be brought along.
    """
    with open_store(home) as store:
        try:
            with staging(home / "experiments") as folder:
                take_snapshot(submission.context, folder / "context", without=home)
                config = folder / "config.yaml"
                config.touch(mode=0o600)  # there may be secrets in it
                config.write_text(submission.loaded.text, encoding="utf-8")
                source = _source(home, submission, folder)
                try:
                    return _store(store, home, folder, submission, source)
                except BaseException:
                    _forget(home, submission, source)
                    raise
        except OSError as error:
            raise StoreError(f"The home {home} cannot be written: {error.strerror} ({error.filename}).") from error


def _source(home: Path, submission: Submission, folder: Path) -> Source | None:
    """What the trials start from, brought into `folder`, or into the experiment's storage, if it must be."""
    start, loaded = submission.start, submission.loaded
    if start is None or not start.to_bring:
        return None if start is None else start.source
    workshop = Workshop(get_plugins(), loaded.config, submission.options)
    try:
        storage = workshop.storage(folder / "source") if workshop.launcher().leaves_machine else None
        return bring_source(home, start, folder, storage)
    except StoreError:
        raise
    except (UsageError, CheckpointError) as error:
        key = warm_start.key_of(loaded.config)
        raise ConfigError([loaded.problem(key, f"{key}: {error}")]) from error


def _forget(home: Path, submission: Submission, source: Source | None) -> None:
    """Remove what was brought for an experiment that was not stored after all."""
    if source is not None and source.copied == "storage":
        workshop = Workshop(get_plugins(), submission.loaded.config, submission.options)
        with suppress(CheckpointError):
            remove_source(ExperimentFiles(home, 0), source, workshop.storage(home))


def _store(store: Store, home: Path, prepared: Path, submission: Submission, source: Source | None) -> int:
    config = submission.loaded.config
    with store.transaction() as transaction:
        if source is not None and not source.copied and _is_given_up(transaction, source.checkpoint):
            raise UsageError(f"checkpoint {source.checkpoint} was given up just now; choose another one.")
        number = last_number(home)
        options = {**submission.options, OWNER: new_owner()}
        if source is not None:
            options[warm_start.OPTION] = source.to_option()
        experiment_id = transaction.add_experiment(config.name, config.to_dict(), options, above=number)
        for warning in submission.warnings:
            transaction.add_notice(experiment_id, None, warning)
        folder = ExperimentFiles(home, experiment_id).directory
        if folder.exists():  # of a submission that was cut off between this and the commit
            shutil.rmtree(folder)
        prepared.rename(folder)
    return experiment_id


def _is_given_up(transaction: Transaction, checkpoint: str) -> bool:
    return transaction.checkpoint_state(checkpoint) not in (None, "COMPLETED")


def _run_once(loaded: Loaded) -> Iterator[str]:
    """What to say where a trial has several slots and its command does not start once for each."""
    config = loaded.config
    if config.resources.slots_per_trial != 1 and not _uses_all_slots(config):
        command = config.entrypoint.command
        on_every_slot = f"'python3 -m {LAUNCH_LAYER} {shlex.join(command)}'"
        if Path(command[0]).name == "torchrun":
            on_every_slot = f"put 'python3 -m {LAUNCH_LAYER}' in the place of torchrun and its options"
        what = f"this command is run once, with all slots of its trial. To run it on every slot: {on_every_slot}."
        yield str(loaded.problem("entrypoint", what))


def _shards_nothing(loaded: Loaded, options: Mapping[str, Any], absent: str | None) -> Iterator[str]:
    """What to say where parameters are to be split over slots that split the data, and a trial has one of these."""
    config = loaded.config
    if not config.shard:
        return
    data = _slots_of(config, options, absent) if config.mesh is None else config.mesh.data
    if data == 1 or not _uses_all_slots(config):
        yield str(
            loaded.problem(
                "shard",
                "'shard: true' has no effect: parameters are split over the slots that split the data, and this trial "
                "has one. 'resources.slots_per_trial', or 'data' of 'mesh', gives it more.",
            )
        )


def _slots_of(config: ExperimentConfig, options: Mapping[str, Any], absent: str | None) -> int | str:
    """The slots of a trial; where they are `auto`, as many as there are now, if they are of this machine."""
    if config.resources.slots_per_trial != AUTO or absent is not None:
        return config.resources.slots_per_trial
    workshop = Workshop(get_plugins(), config, options)
    launcher = workshop.launcher()
    if launcher.leaves_machine:
        return AUTO
    name, backend = workshop.backend(launcher)
    return workshop.offer(name, backend, launcher).per_trial


def _one_trial(config: ExperimentConfig) -> Iterator[str]:
    """What to say where a search is only tested."""
    if config.searcher.name != "single":
        yield (
            f"this is a test: one trial is made, with hyperparameters that '{config.searcher.name}' could begin with, "
            "and nothing is searched."
        )


def _few_points(loaded: Loaded) -> Iterator[str]:
    """What to say where a search at random ends before it has made all of its trials."""
    searcher = loaded.config.searcher
    distinct = points(loaded.config.hyperparameters)
    if searcher.name != "random" or distinct is None or distinct >= searcher.settings["max_trials"]:
        return
    trials = "1 trial" if distinct == 1 else f"{distinct} trials"
    yield str(
        loaded.problem(
            "searcher.max_trials",
            f"only {trials} of searcher.max_trials: {searcher.settings['max_trials']} will be made, because the "
            f"hyperparameters allow no more combinations.",
        )
    )


def _context(loaded: Loaded, context: str | Path | None) -> Path:
    default = loaded.path.parent if loaded.path is not None else Path.cwd()
    folder = Path(context) if context is not None else default
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"The context {folder} {what}. CONTEXT is the folder of the entrypoint's code.")
    return folder.resolve()


def _options(slots: int | None, data_root: str | Path | None, test: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"started_in": str(Path.cwd())}
    if slots is not None:
        if slots < 1:
            raise UsageError(f"--slots takes a number of at least 1, not {slots}.")
        options["slots"] = slots
    if data_root is not None:
        root = Path(data_root).expanduser()
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "does not exist"
            raise UsageError(f"The data root {root} {what}. --data-root is the folder that holds the data set.")
        options["data_root"] = str(root.resolve())
    if test:
        options["test"] = True
    return options


def _not_yet(loaded: Loaded) -> Iterator[Problem]:
    """What the schema has and this version cannot do yet."""
    config = loaded.config
    cannot: list[tuple[str, bool]] = [
        ("log_policies", bool(config.log_policies)),
    ]
    for path, is_asked in cannot:
        if is_asked:
            yield loaded.problem(path, f"'{path}' is not supported by this version yet; leave it out.")


def _warm_start(
    loaded: Loaded, home: Path, paths_from: Path, options: Mapping[str, Any]
) -> tuple[Start | None, list[Problem]]:
    try:
        leaves_machine = Workshop(get_plugins(), loaded.config, options).launcher().leaves_machine
    except PluginError:  # which is told elsewhere
        leaves_machine = False
    try:
        return find_start(home, loaded.config, paths_from, leaves_machine=leaves_machine), []
    except StoreError:
        raise
    except (UsageError, CheckpointError) as error:
        key = warm_start.key_of(loaded.config)
        return None, [loaded.problem(key, f"{key}: {error}")]


def _entrypoint(loaded: Loaded, context: Path) -> Iterator[Problem]:
    config = loaded.config
    if wrong := check_entrypoint(config.entrypoint, context):
        yield loaded.problem("entrypoint", f"entrypoint: {wrong}")
    if config.mesh is not None and config.mesh.data * config.mesh.tensor > 1 and not _uses_all_slots(config):
        yield loaded.problem(
            "mesh",
            "a mesh arranges processes, but the command of 'entrypoint' is run once for all slots of a trial. To run "
            "it on every slot, put 'python3 -m mnist_trials.launch.torch_distributed' before it.",
        )


def _uses_all_slots(config: ExperimentConfig) -> bool:
    """Whether all slots of a trial train it: by a process on each, or by one process that drives all of them."""
    return config.entrypoint.per_rank or is_one_process(get_plugins(), config.backend)


def _plugins(loaded: Loaded, options: Mapping[str, Any], absent: str | None) -> Iterator[Problem]:
    config = loaded.config
    workshop = Workshop(get_plugins(), config, options)
    made: dict[str, Any] = {}
    checks: list[tuple[str, Callable[[], object]]] = [
        ("searcher.name", workshop.searcher),
        ("launcher", workshop.launcher),
        ("checkpoint_storage", lambda: workshop.storage(Path("/"))),
        *((f"loggers.{number}", _logger(workshop, config, number)) for number in range(len(config.loggers))),
    ]
    for path, make in checks:
        try:
            made[path] = make()
        except PluginError as error:
            yield loaded.problem(path, str(error))
    launcher: Launcher | None = made.get("launcher")
    if launcher is None:
        yield from _backend(loaded, workshop, None, None, absent)
        return
    # It is not closed: a launcher that had to connect to a cluster for this may stay so for the controller.
    yield from _out_of_reach(loaded, launcher, made.get("checkpoint_storage"))
    # How many slots an experiment takes depends on its searcher.
    with_slots = len(made) == len(checks)
    yield from _backend(loaded, workshop, launcher, options.get("slots"), absent, with_slots=with_slots)


def _logger(workshop: Workshop, config: ExperimentConfig, number: int) -> Callable[[], object]:
    return lambda: workshop.logger(config.loggers[number])


def _out_of_reach(loaded: Loaded, launcher: Launcher, storage: CheckpointStorage | None) -> Iterator[Problem]:
    """Workers on other machines that could not save their checkpoints where this one finds them."""
    if storage is None or not storage.local or not launcher.leaves_machine:
        return
    config = loaded.config
    given = config.checkpoint_storage.storage
    where = f"'{DEFAULT_STORAGE.name if given is None else given.name}'{' (the default)' if given is None else ''}"
    yield loaded.problem(
        "launcher" if given is None else "checkpoint_storage",
        f"the launcher '{config.launcher.name}' may run trials on other machines, which cannot reach the checkpoint "
        f"storage {where} of this one. Name one that all of them reach, such as "
        "'checkpoint_storage: {type: shared_fs, host_path: ...}' on a file system that they share.",
    )


def _backend(
    loaded: Loaded,
    workshop: Workshop,
    launcher: Launcher | None,
    offered: int | None,
    absent: str | None,
    *,
    with_slots: bool = False,
) -> Iterator[Problem]:
    try:
        name, backend = workshop.backend(launcher)
    except PluginError as error:
        if absent is None:
            yield loaded.problem("backend", str(error))
        return
    if launcher is None:
        return
    try:
        interpreter.check(loaded.config.backend, launcher)
    except PluginError as error:
        yield loaded.problem("backend", str(error))
        return
    if not with_slots:
        return
    try:
        offer = workshop.offer(name, backend, launcher)
    except PluginError as error:
        if offered is not None:
            yield Problem(str(error), f"--slots {offered}")
        elif absent is None:
            yield loaded.problem("resources.slots_per_trial", str(error))
        return
    config = loaded.config
    several = config.entrypoint.per_rank and not backend.one_process
    if offer.per_trial > 1 and several and not launcher.several_ranks:
        yield loaded.problem(
            "resources.slots_per_trial",
            f"the launcher '{config.launcher.name}' runs a trial in one process, but 'resources.slots_per_trial: "
            f"{config.resources.slots_per_trial}' takes {offer.per_trial}, one per slot; use `launcher: local`.",
        )
