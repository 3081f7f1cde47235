"""Experiments of one home share a machine: nothing is oversold, nobody overtaken, and no lease outlives its holder."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_trials.experiment import api
from mnist_trials.experiment.leases import Market, units_of_machine
from mnist_trials.experiment.slots import machine_slots
from mnist_trials.records import Slot
from mnist_trials.store import Holdings
from mnist_trials.store.rows import LeaseRow, WaitingRow
from mnist_trials.testing.waiting import wait_until
from tests.experiment.recording_logger import Recording


def core(index: int, threads: int = 1) -> Slot:
    return Slot(id=f"cpu:{index}", backend="cpu", index=index, description="", threads=threads, shares_cores=True)


def device(index: int) -> Slot:
    return Slot(id=f"cuda:{index}", backend="cuda", index=index, description="", threads=4)


def lease(unit: str, experiment: int, trial: int = 1) -> LeaseRow:
    return LeaseRow(unit=unit, experiment_id=experiment, trial_id=trial, run=1)


def waits(experiment: int, place: int, units: frozenset[str], slots: int = 1) -> WaitingRow:
    return WaitingRow(
        experiment_id=experiment, trial_id=1, place=place, since=0.0, slots=slots, units=units, text="waits"
    )


CORES = units_of_machine([core(0), core(1), core(2), core(3)])
DEVICES = units_of_machine([device(0), device(1)])


def test_the_units_are_cores_one_by_one_and_every_other_device_itself() -> None:
    assert frozenset({"cpu.0", "cpu.1", "cpu.2"}) == units_of_machine([core(0, 2), core(1, 1)])
    assert frozenset({"cuda:0", "cuda:1"}) == DEVICES


def test_a_slot_takes_as_many_cores_as_it_has_threads_whichever_are_free() -> None:
    market = Market(9, CORES, Holdings((lease("cpu.1", 1), lease("cpu.2", 9, trial=2))))
    assert market.usable([core(0, 2)]) == [core(0, 2)]
    assert market.choose([core(0, 2)]) == ["cpu.0", "cpu.3"]
    assert market.usable([core(0, 3)]) == []
    assert market.usable([core(0, 2), core(1, 1)]) == [core(1, 1)]


def test_another_device_is_taken_where_the_first_is_held() -> None:
    market = Market(9, DEVICES, Holdings((lease("cuda:0", 1),)))
    assert market.usable([device(0), device(1)]) == [device(1)]
    assert market.choose([device(1)]) == ["cuda:1"]


def test_what_an_earlier_one_waits_for_is_left_to_it_and_what_it_cannot_use_is_not() -> None:
    first, second = waits(1, 5, CORES, slots=4), waits(2, 6, CORES)
    assert Market(3, CORES, Holdings((), (first,))).free == []
    assert Market(2, CORES, Holdings((), (first, second))).free == []
    assert Market(1, CORES, Holdings((), (first, second))).free == sorted(CORES)
    assert Market(3, DEVICES, Holdings((), (first,))).free == sorted(DEVICES)


def test_who_waits_says_who_holds_what_and_who_comes_first() -> None:
    held = (lease("cpu.0", 3), lease("cpu.1", 3), *(lease(f"cpu.{n}", 4, trial=n) for n in (2, 3)))
    ahead = waits(5, 1, CORES, slots=2)
    assert Market(9, CORES, Holdings(held[:2])).why_not(2) == "waits for 2 slots: cpu held by experiment 3 (trial 3.1)"
    assert Market(9, CORES, Holdings(held, (ahead,))).why_not(1) == (
        "waits for 1 slot: cpu held by experiment 3 (trial 3.1); cpu held by experiment 4 (trials 4.2, 4.3); "
        "cpu next for experiment 5, which waits for 2 slots"
    )
    many = Holdings(tuple(lease(f"cpu.{n}", 4, trial=n) for n in range(1, 6)))
    units = frozenset(row.unit for row in many.leases)
    assert Market(9, units, many).why_not(1).endswith("experiment 4 (trials 4.1, 4.2, 4.3 and 2 more)")
    assert "cuda:0, cuda:1 held by" in Market(9, DEVICES, Holdings((lease("cuda:0", 1), lease("cuda:1", 1)))).why_not(1)


@given(st.sets(st.sampled_from(sorted(CORES | DEVICES))), st.lists(st.integers(1, 3), max_size=5), st.data())
def test_what_is_usable_can_be_taken_and_no_unit_twice(held: set[str], threads: list[int], data: st.DataObject) -> None:
    slots = [core(index, count) for index, count in enumerate(threads)]
    slots += data.draw(st.lists(st.sampled_from([device(0), device(1)]), unique=True))
    market = Market(9, CORES | DEVICES, Holdings(tuple(lease(unit, 1) for unit in sorted(held))))
    usable = market.usable(slots)
    units = market.choose(usable)
    assert len(units) == len(set(units)) == sum(slot.threads if slot.backend == "cpu" else 1 for slot in usable)
    assert not held & set(units)
    for slot in set(slots) - set(usable):  # maximal: none of the others would fit as well
        if slot.backend == "cpu":
            assert len((CORES - held).difference(units)) < slot.threads
        else:
            assert slot.id in held


def message(lab: Any, experiment_id: int) -> str:
    with lab.reader() as reader:
        trials = reader.trials(experiment_id)
        return trials[0].message if trials else ""


def until_it_waits(lab: Any, experiment_id: int, words: str) -> None:
    wait_until(lambda: words in message(lab, experiment_id))


def holder(lab: Any) -> tuple[int, Any]:
    """An experiment whose trial holds all cores until it is let go, and its controller."""
    experiment_id = lab.submit(lab.config(launcher="local", do="hold", at=1, in_runs=[1]))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    return experiment_id, process


def let_go(lab: Any, experiment_id: int) -> None:
    (lab.files(experiment_id).trial(1) / "go").touch()


def test_slots_of_a_controller_that_is_killed_are_free_for_the_one_that_waits_and_says_so(lab: Any) -> None:
    first, holding = holder(lab)
    waiting = lab.start(second := lab.submit(lab.config(launcher="local")))
    until_it_waits(lab, second, "waits for 1 slot: cpu held by experiment 1 (trial 1.1)")
    status = machine_slots(lab.home)[0]
    assert [(holder.experiment_id, holder.trial_id) for holder in status.holders] == [(first, 1)]
    assert [(row.experiment_id, row.trial_id, row.slots) for row in status.waiting] == [(second, 1, 1)]
    holding.send_signal(signal.SIGKILL)
    assert lab.finish(waiting)["state"] == "COMPLETED"
    holding.communicate(timeout=60)
    assert message(lab, second) == ""
    assert lab.finish(lab.start(first))["state"] == "COMPLETED"
    with lab.reader() as reader:
        assert reader.holdings() == Holdings()


@pytest.mark.parametrize("how", ["pause", "go on"])
def test_of_a_controller_that_is_killed_no_trial_waits_afterwards(lab: Any, how: str) -> None:
    first, holding = holder(lab)
    waiting = lab.start(second := lab.submit(lab.config(launcher="local")))
    until_it_waits(lab, second, "waits for 1 slot")
    waiting.send_signal(signal.SIGKILL)
    waiting.communicate(timeout=60)
    until_it_waits(lab, second, "waits for 1 slot")
    if how == "pause":
        api.request(second, "pause", home=lab.home)
    else:
        again = lab.start(second, "controller.after_commit:kill:1")  # it has begun, and looked for no slots yet
        again.communicate(timeout=60)
        assert again.returncode == -signal.SIGKILL
    assert message(lab, second) == ""
    let_go(lab, first)
    lab.finish(holding)
    assert lab.finish(lab.start(second))["state"] == "COMPLETED"


def test_those_that_wait_are_served_in_the_order_in_which_they_came(lab: Any) -> None:
    first, holding = holder(lab)
    hold = {"do": "hold", "at": 1}
    second = lab.start(lab.submit(lab.config(launcher="local", **hold)))
    until_it_waits(lab, 2, "held by experiment 1")
    third = lab.start(lab.submit(lab.config(launcher="local")))
    until_it_waits(lab, 3, "cpu next for experiment 2, which waits for 1 slot")
    let_go(lab, first)
    lab.finish(holding)
    lab.wait_until_holding(2)
    until_it_waits(lab, 3, "waits for 1 slot: cpu held by experiment 2 (trial 2.1)")
    let_go(lab, 2)
    assert (lab.finish(second)["state"], lab.finish(third)["state"]) == ("COMPLETED", "COMPLETED")


def test_one_that_waits_can_be_paused_and_stands_in_nobodys_way_then(lab: Any) -> None:
    first, holding = holder(lab)
    second = lab.start(lab.submit(lab.config(launcher="local")))
    until_it_waits(lab, 2, "held by experiment 1")
    third = lab.start(lab.submit(lab.config(launcher="local")))
    until_it_waits(lab, 3, "next for experiment 2")
    api.request(2, "pause", home=lab.home)
    assert lab.finish(second)["state"] == "PAUSED"
    assert message(lab, 2) == ""
    wait_until(lambda: message(lab, 3) == "waits for 1 slot: cpu held by experiment 1 (trial 1.1)")
    let_go(lab, first)
    lab.finish(holding)
    assert lab.finish(third)["state"] == "COMPLETED"
    assert lab.run(2)["state"] == "COMPLETED"


def test_followers_are_told_that_a_trial_waits_and_that_it_waits_no_more(lab: Any) -> None:
    first, holding = holder(lab)

    class Watching(Recording):
        told: list[str]

        def waiting(self, trial_id: int, why: str) -> None:
            self.told = [*getattr(self, "told", []), why]
            if why:
                let_go(lab, first)

    logger = Watching()
    lab.run(lab.submit(), [logger])
    lab.finish(holding)
    assert logger.told == ["waits for 1 slot: cpu held by experiment 1 (trial 1.1)", ""]


def test_two_searches_at_once_never_use_more_cores_than_there_are(lab: Any, tmp_path: Path) -> None:
    (claims := tmp_path / "claims").mkdir()
    processes = []
    for slots in (1, len(os.sched_getaffinity(0))):
        config = lab.config(length=1, launcher="local", do="claim", at=0, claims=str(claims)) | {"max_restarts": 0}
        config["hyperparameters"]["lr"] = {"type": "double", "minval": 0.0, "maxval": 1.0}
        config["searcher"] |= {"name": "random", "max_trials": 4, "max_concurrent_trials": 4}
        processes.append(lab.start(lab.submit(config, slots=slots)))
    for summary in map(lab.finish, processes):
        assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED"] * 4
