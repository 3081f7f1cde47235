"""The slots that an experiment works with: of this machine, or those that its launcher has elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final, final

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import PluginError
from mnist_trials.experiment.leases import units_of_machine
from mnist_trials.plugin import Backend, Launcher
from mnist_trials.records import Slot

_ALL: Final = sys.maxsize


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an experiment works with."""

    slots: tuple[Slot, ...]  # those that its trials may be on
    per_trial: int
    trials: int  # how many have room at once
    units: frozenset[str] | None  # of this machine, which experiments share by leases; None: the slots are elsewhere
    one_host: bool  # the slots of a trial must be on one host


def slots_per_trial(config: ExperimentConfig, offered: int) -> int:
    """How many of `offered` slots each trial takes; `auto`: all."""
    wanted = config.resources.slots_per_trial
    return offered if wanted == "auto" else wanted


def make_offer(
    name: str, backend: Backend, launcher: Launcher, config: ExperimentConfig, given: int | None, trials: int
) -> Offer:
    """The slots for an experiment on the backend `name`.

    `given` (--slots) slots where that is not None, else as many as `trials` trials at once can use;
    `resources.max_slots` bounds both.

    Raises:
        PluginError: no trial would ever fit; the text says what is there.
    """
    each = config.resources.slots_per_trial
    least = 1 if each == "auto" else each
    bound = min(given or _ALL, config.resources.max_slots or _ALL)
    useful = _ALL if each == "auto" else max(trials, 1) * each
    elsewhere = launcher.slots(name, bound if given is not None else min(bound, useful), least)
    if elsewhere is not None:
        return _offer(config, elsewhere, len(elsewhere), None, "there are")
    there = backend.slots(None)
    if not there:
        raise PluginError("this machine has no slot for it")
    count = min(bound, useful, len(there)) if given is None else bound
    if given is None and count >= least:
        count -= count % least  # cores that no trial could use go to those that can run
    slots = backend.slots(count)
    if not slots[0].shares_cores:
        # Which of the devices does not matter, so that two experiments need not want the same ones.
        slots = tuple(replace(slot, threads=slots[0].threads) for slot in there)
    says = "this machine offers" if given is None else f"'--slots {given}' leaves"
    return _offer(config, slots, count, units_of_machine(there), says)


def _offer(
    config: ExperimentConfig, slots: tuple[Slot, ...], count: int, units: frozenset[str] | None, says: str
) -> Offer:
    """`count` of `slots` may be in use at once."""
    each = slots_per_trial(config, count)
    if each > count or not each:
        raise PluginError(f"a trial takes {max(each, 1)} slots, but {says} {count}: {_in_words(slots[:count])}")
    one_host = bool(config.resources.is_single_node)
    most = max(Counter(slot.host for slot in slots).values())
    if one_host and each > most:
        raise PluginError(
            f"a trial takes {each} slots on one machine ('resources.is_single_node'), but none has more than {most}: "
            f"{_in_words(slots)}"
        )
    mesh = config.mesh
    if mesh is not None and mesh.data * mesh.tensor != each:
        raise PluginError(
            f"'mesh' takes {mesh.data} x {mesh.tensor} = {mesh.data * mesh.tensor} slots, but a trial takes {each}: "
            f"'resources.slots_per_trial: {config.resources.slots_per_trial}' of {_in_words(slots[:count])}"
        )
    return Offer(slots=slots, per_trial=each, trials=count // each, units=units, one_host=one_host)


def _in_words(slots: tuple[Slot, ...]) -> str:
    hosts = {slot.host for slot in slots}
    return ", ".join(_slot_in_words(slot, with_host=len(hosts) > 1) for slot in slots) or "none"


def _slot_in_words(slot: Slot, *, with_host: bool) -> str:
    return f"{slot.id} ({slot.description}{f' of {slot.host}' if with_host else ''})"
