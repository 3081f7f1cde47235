"""The slots of this machine: what there is, what an experiment takes, and who holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from mnist_trials.config import ExperimentConfig
from mnist_trials.config.schema import PluginChoice
from mnist_trials.errors import PluginError
from mnist_trials.experiment.home import ExperimentFiles, resolve_home
from mnist_trials.experiment.lock import is_locked
from mnist_trials.plugin import Backend, Create, PluginManager, PluginRecord, Searcher, SearcherContext, get_plugins
from mnist_trials.records import ExperimentState, Slot
from mnist_trials.store import Reader, open_reader

AUTO = "auto"
_PREFERRED = ("cuda", "cpu")


@final
@dataclass(frozen=True, slots=True)
class SlotHolder:
    """Who holds a slot."""

    experiment_id: int
    trial_id: int


@final
@dataclass(frozen=True, slots=True)
class SlotStatus:
    """A slot of this machine and the trials of live experiments on it (CPU slots may be shared by experiments)."""

    slot: Slot
    holders: tuple[SlotHolder, ...]


def machine_slots(home: str | Path | None = None) -> list[SlotStatus]:
    """All slots of all available backends, by backend and index.

    The CPU is divided as each experiment wants; it is listed here as it is divided by default.
    """
    plugins = get_plugins()
    backends = [record for record in _unique(plugins) if record.available() is None]
    with open_reader(resolve_home(home)) as reader:
        holders = _holders(reader)
    return [
        SlotStatus(slot, tuple(holders.get(slot.id, ())))
        for record in backends
        for slot in record.factory({}).slots(None)
    ]


def resolve_backend(plugins: PluginManager, choice: PluginChoice) -> tuple[str, Backend]:
    """The backend of `choice` by its own name; for `auto` cuda where this machine has a device, else cpu.

    Raises:
        PluginError: it is unknown, unavailable, or does not take the options.
    """
    if choice.name != AUTO:
        record = plugins.find("backend", choice.name)
        return record.name, record.factory(choice.options)
    if choice.options:
        raise PluginError(f"The backend '{AUTO}' takes no options; name a backend to give it {sorted(choice.options)}.")
    known = plugins.backends()
    for name in _PREFERRED:
        if name in known and known[name].available() is None:
            backend = known[name].factory({})
            if backend.slots(None):
                return name, backend
    raise PluginError(f"No backend of {', '.join(_PREFERRED)} is available; name another one as `backend`.")


def slots_per_trial(config: ExperimentConfig) -> int:
    """How many slots each trial takes."""
    wanted = config.resources.slots_per_trial
    return 1 if wanted == "auto" else wanted


def concurrency(config: ExperimentConfig) -> int | None:
    """How many trials may run at once by `searcher.max_concurrent_trials`; None: no bound."""
    return config.searcher.settings.get("max_concurrent_trials") or None


def first_trials(searcher: Searcher, context: SearcherContext) -> int:
    """How many trials a search begins with; `searcher` is spent afterwards.

    Raises:
        PluginError: the searcher fails.
    """
    try:
        return sum(isinstance(action, Create) for action in searcher.initial_trials(context))
    except Exception as error:  # foreign code
        raise PluginError(
            f"the searcher ({type(searcher).__name__}) failed in initial_trials: {type(error).__name__}: {error}"
        ) from error


def take_slots(backend: Backend, config: ExperimentConfig, offered: int | None, at_once: int) -> tuple[Slot, ...]:
    """The slots of this machine that an experiment works with.

    `offered` (--slots) slots where that is given, else as many as `at_once` trials can use; `resources.max_slots`
    bounds both.

    Raises:
        PluginError: there are not so many; the text says what is there.
    """
    bound = config.resources.max_slots
    if offered is None:
        present = len(backend.slots(None))
        if present == 0:
            raise PluginError("this machine has no slot for it")
        offered = min(present, max(at_once, 1) * slots_per_trial(config))
    return backend.slots(offered if bound is None else min(offered, bound))


def _unique(plugins: PluginManager) -> list[PluginRecord[Backend]]:
    known = plugins.backends()
    return [known[name] for name in plugins.names("backend")]


def _holders(reader: Reader) -> dict[str, list[SlotHolder]]:
    holders: dict[str, list[SlotHolder]] = {}
    for experiment in reader.experiments():
        if experiment.state not in (ExperimentState.ACTIVE, ExperimentState.STOPPING):
            continue
        if not is_locked(ExperimentFiles(reader.home, experiment.id).lock):
            continue
        for run in reader.open_runs(experiment.id):
            for slot in run.slots:
                holders.setdefault(slot, []).append(SlotHolder(experiment.id, run.trial_id))
    return holders
