"""The slots of this machine, who holds them, and who waits for them; and which backend an experiment is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mnist_trials.config import ExperimentConfig
from mnist_trials.config.schema import PluginChoice
from mnist_trials.errors import PluginError
from mnist_trials.experiment.home import resolve_home
from mnist_trials.experiment.leases import living, units_of_machine
from mnist_trials.plugin import (
    Backend,
    Create,
    Launcher,
    PluginManager,
    PluginRecord,
    Searcher,
    SearcherContext,
    get_plugins,
    own_options,
    python_of,
)
from mnist_trials.records import Slot
from mnist_trials.store import open_reader
from mnist_trials.store.rows import WaitingRow

AUTO = "auto"
_CPU = "cpu"
_PREFERRED = ("cuda", _CPU)


@final
@dataclass(frozen=True, slots=True)
class SlotHolder:
    """Who holds a slot."""

    experiment_id: int
    trial_id: int


@final
@dataclass(frozen=True, slots=True)
class SlotStatus:
    """A slot of this machine, the trials that hold it, and the experiments that wait for it, the first first.

    Only such count whose experiment has a controller.
    """

    slot: Slot
    holders: tuple[SlotHolder, ...]
    waiting: tuple[WaitingRow, ...]


def machine_slots(home: str | Path | None = None) -> list[SlotStatus]:
    """All slots of all available backends, by backend and index; a device that several can use is told once.

    The cores of the CPU are one slot each here, those of the backend `cpu`, however experiments divide them.
    """
    plugins = get_plugins()
    backends = [record for record in _unique(plugins) if record.available() is None]
    with open_reader(resolve_home(home)) as reader:
        holdings = living(reader.home, reader.holdings())
    found: dict[str, SlotStatus] = {}
    for name, slots in ((record.name, record.factory({}).slots(None)) for record in backends):
        for number, slot in enumerate(slots):
            if slot.id in found or (slot.shares_cores and name != _CPU):
                continue
            units = units_of_machine(slots[: number + 1]) - units_of_machine(slots[:number])
            held = {(row.experiment_id, row.trial_id) for row in holdings.leases if row.unit in units}
            waiting = tuple(row for row in holdings.waiting if row.units & units)
            found[slot.id] = SlotStatus(slot, tuple(SlotHolder(*holder) for holder in sorted(held)), waiting)
    return list(found.values())


def resolve_backend(
    plugins: PluginManager, choice: PluginChoice, launcher: Launcher | None = None
) -> tuple[str, Backend]:
    """The backend of `choice` by its own name; for `auto` cuda where there is a device, else cpu.

    Where `launcher` has slots elsewhere, devices are looked for there, and this machine may be without. Where the
    config names an interpreter, it is this one whose libraries count (see `interpreter.check`).

    Raises:
        PluginError: it is unknown, unavailable, or does not take the options.
    """
    known = plugins.backends()
    if choice.name == AUTO:
        if choice.options:
            raise PluginError(
                f"The backend '{AUTO}' takes no options; name a backend to give it {sorted(choice.options)}."
            )
        return _preferred(known, launcher)
    elsewhere = python_of(choice.name, choice.options) is not None or _has_slots(launcher, choice.name) is not None
    record = known[choice.name] if elsewhere and choice.name in known else plugins.find("backend", choice.name)
    return record.name, record.factory(own_options(choice.options))


def is_one_process(plugins: PluginManager, choice: PluginChoice) -> bool:
    """Whether one process drives all slots of a trial on the backend of `choice`; False where that cannot be made.

    None of those that `auto` chooses from does so.
    """
    try:
        return choice.name != AUTO and resolve_backend(plugins, choice)[1].one_process
    except PluginError:
        return False


def _preferred(known: Mapping[str, PluginRecord[Backend]], launcher: Launcher | None) -> tuple[str, Backend]:
    for name in (name for name in _PREFERRED if name in known):
        elsewhere = _has_slots(launcher, name)
        if elsewhere or (elsewhere is None and known[name].available() is None):
            backend = known[name].factory({})
            if elsewhere or backend.slots(None):
                return name, backend
    raise PluginError(f"No backend of {', '.join(_PREFERRED)} is available; name another one as `backend`.")


def _has_slots(launcher: Launcher | None, backend: str) -> bool | None:
    """Whether `launcher` has slots for `backend` elsewhere; None: it works on this machine."""
    if launcher is None:
        return None
    try:
        slots = launcher.slots(backend, 1, 1)
    except PluginError:
        return False
    return None if slots is None else bool(slots)


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
    except (Exception, SystemExit) as error:  # foreign code
        raise PluginError(
            f"the searcher ({type(searcher).__name__}) failed in initial_trials: {type(error).__name__}: {error}"
        ) from error


def _unique(plugins: PluginManager) -> list[PluginRecord[Backend]]:
    known = plugins.backends()
    return [known[name] for name in plugins.names("backend")]
