"""The units of this machine that trials hold, so that experiments with the same home can share it.

A unit is a CPU core (`cpu.0`), of which a slot that is a share of the cores takes as many as it has threads, whichever
are free; or a device (`cuda:0`), which takes itself, whichever backend it is a slot of. A lease counts while its
experiment has a controller: that one holds a lock, which ends with it, whatever ended it. The store keeps the rows;
those of the dead are swept by whoever looks next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.lock import is_locked
from mnist_trials.records import Slot
from mnist_trials.store import Holdings, Transaction
from mnist_trials.store.rows import LeaseRow, WaitingRow

_CORES = "cpu"

_SHOWN = 3  # trials of an experiment that are named


def units_of_machine(slots: Iterable[Slot]) -> frozenset[str]:
    """The units of all `slots` of a backend on this machine."""
    cores = 0
    units: set[str] = set()
    for slot in slots:
        if slot.shares_cores:
            units.update(f"{_CORES}.{core}" for core in range(cores, cores + slot.threads))
            cores += slot.threads
        else:
            units.add(slot.id)
    return frozenset(units)


def living(home: Path, holdings: Holdings) -> Holdings:
    """What counts of `holdings`: the rows of experiments that have a controller."""
    dead = {number for number in holdings.experiments if not is_locked(ExperimentFiles(home, number).lock)}
    return holdings.without(dead)


@final
@dataclass(frozen=True, slots=True)
class Market:
    """The units of this machine as one experiment finds them: whose they are, and who came before it."""

    experiment_id: int
    units: frozenset[str]  # that it could use
    holdings: Holdings  # what counts of them

    @property
    def place(self) -> int | None:
        """Its own place among those that wait; None: it does not wait."""
        return next((row.place for row in self.holdings.waiting if row.experiment_id == self.experiment_id), None)

    @property
    def ahead(self) -> list[WaitingRow]:
        """Those that have waited for longer for a unit that it could use."""
        place = self.place
        return [
            row
            for row in self.holdings.waiting
            if row.experiment_id != self.experiment_id
            and (place is None or row.place < place)
            and row.units & self.units
        ]

    @property
    def free(self) -> list[str]:
        """The units it may take now: nobody holds them, and nobody who came before waits for them."""
        taken = {row.unit for row in self.holdings.leases}
        return sorted(self.units.difference(taken, *(row.units for row in self.ahead)))

    def usable(self, slots: Iterable[Slot]) -> list[Slot]:
        """Those of `slots` that there are units for, all at once; in their order."""
        free = self.free
        cores = sum(unit.startswith(f"{_CORES}.") for unit in free)
        usable: set[str] = set()
        given = list(slots)
        for slot in sorted(given, key=lambda slot: slot.threads):
            if not slot.shares_cores:
                usable |= {slot.id} & set(free)
            elif slot.threads <= cores:
                cores -= slot.threads
                usable.add(slot.id)
        return [slot for slot in given if slot.id in usable]

    def choose(self, slots: Sequence[Slot]) -> list[str]:
        """The units for `slots`, which are `usable`."""
        devices = [slot.id for slot in slots if not slot.shares_cores]
        cores = [unit for unit in self.free if unit.startswith(f"{_CORES}.")]
        return devices + cores[: sum(slot.threads for slot in slots if slot.shares_cores)]

    def why_not(self, slots: int) -> str:
        """Why `slots` slots are not to be had, for a person."""
        reasons = [*self._held(), *(self._before(row) for row in self.ahead)]
        return f"waits for {_count(slots)}: {'; '.join(reasons)}"

    def _held(self) -> list[str]:
        held: dict[int, list[LeaseRow]] = {}
        for row in self.holdings.leases:
            if row.unit in self.units and row.experiment_id != self.experiment_id:
                held.setdefault(row.experiment_id, []).append(row)
        return [
            f"{', '.join(sorted({_device(row.unit) for row in rows}))} held by experiment {number} ({_trials(rows)})"
            for number, rows in sorted(held.items())
        ]

    def _before(self, row: WaitingRow) -> str:
        devices = ", ".join(sorted({_device(unit) for unit in row.units & self.units}))
        return f"{devices} next for experiment {row.experiment_id}, which waits for {_count(row.slots)}"


@final
class Leases:
    """What the trials of one experiment hold."""

    def __init__(self, home: Path, experiment_id: int, units: frozenset[str]) -> None:
        """`units`: those that its trials can use."""
        self._home = home
        self._experiment_id = experiment_id
        self._units = units

    def market(self, holdings: Holdings) -> Market:
        """The machine as `holdings` describes it."""
        return Market(self._experiment_id, self._units, living(self._home, holdings))

    def sweep(self, transaction: Transaction) -> Market:
        """The machine as it is; what the dead have left is removed."""
        holdings = transaction.holdings()
        market = self.market(holdings)
        # Asked under the write lock: a controller holds its own lock before it can take anything.
        for number in holdings.experiments - market.holdings.experiments:
            transaction.forget_holdings(number)
        return market

    def take(self, transaction: Transaction, market: Market, slots: Sequence[Slot], trial_id: int, run: int) -> None:
        """Let a run hold the units of `slots`, which are usable on `market`."""
        transaction.take_leases(
            LeaseRow(unit=unit, experiment_id=self._experiment_id, trial_id=trial_id, run=run)
            for unit in market.choose(slots)
        )

    def queue(self, transaction: Transaction, market: Market, slots: int, trial_id: int) -> str:
        """Have the experiment wait for `slots` slots for a trial; returns why it must."""
        text = market.why_not(slots)
        waiting = next((r for r in market.holdings.waiting if r.experiment_id == self._experiment_id), None)
        transaction.queue(
            WaitingRow(
                experiment_id=self._experiment_id,
                trial_id=trial_id,
                place=transaction.sequence if waiting is None else waiting.place,
                since=transaction.time if waiting is None else waiting.since,
                slots=slots,
                units=self._units,
                text=text,
            )
        )
        return text


def _device(unit: str) -> str:
    return _CORES if unit.startswith(f"{_CORES}.") else unit


def _trials(rows: Iterable[LeaseRow]) -> str:
    names = [f"{number}.{trial}" for number, trial in sorted({(row.experiment_id, row.trial_id) for row in rows})]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"trial{'s' * (len(names) > 1)} {', '.join(names[:_SHOWN])}{more}"


def _count(slots: int) -> str:
    return f"{slots} slot{'s' * (slots != 1)}"
