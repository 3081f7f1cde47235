"""A trial of several ranks: one spec each, one story for the record, one outcome."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.events import MetricsReported, Notice, TrialExited, WorkersLaunched
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.ranks import counts, is_consequence, with_exit
from mnist_trials.records import ErrorInfo, Outcome, TrialState
from mnist_trials.store.rows import RunRow, TrialRow
from tests.experiment.recording_logger import Recording

needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a trial of two slots needs two cores")

WHO: dict[str, Any] = {"trial_id": 1, "run": 1}
CAUSE = ErrorInfo(type="ValueError", message="no", traceback="", batches=3)
OTHER = ErrorInfo(type="KeyError", message="x", traceback="", batches=3)
LOST = ErrorInfo(type="DistBackendError", message="peer is gone", traceback="", batches=3)
NEW = RunRow(trial_id=1, run=1, slots=("cpu:0", "cpu:1"), started=0.0)


def after(*words: tuple[int, Outcome, ErrorInfo | None]) -> tuple[Outcome | None, ErrorInfo | None]:
    """What counts when ranks have ended with these words, one after the other."""
    run = NEW
    for rank, outcome, error in words:
        run = with_exit(run, TrialExited(**WHO, rank=rank, outcome=outcome, batches=3, error=error))
    return run.outcome, run.error


def test_the_word_of_rank_0_is_the_outcome_whenever_it_comes() -> None:
    done, paused = (0, Outcome.COMPLETED, None), (1, Outcome.PAUSED, None)
    assert after(done, paused) == after(paused, done) == (Outcome.COMPLETED, None)
    assert after(paused) == (None, None)


def test_an_error_of_any_rank_fails_the_run_whatever_rank_0_says() -> None:
    done, failed = (0, Outcome.COMPLETED, None), (1, Outcome.FAILED, CAUSE)
    assert after(done, failed) == after(failed, done) == (Outcome.FAILED, CAUSE)


def test_the_first_error_that_is_no_consequence_counts() -> None:
    lost, cause, other = (0, Outcome.FAILED, LOST), (1, Outcome.FAILED, CAUSE), (2, Outcome.FAILED, OTHER)
    assert after(lost, cause, other) == after(cause, lost, other) == (Outcome.FAILED, CAUSE)
    assert after(lost) == (Outcome.FAILED, LOST)
    assert after(lost, (1, Outcome.INVALID_HP, OTHER)) == (Outcome.INVALID_HP, OTHER)


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("DistNetworkError", "anything", True),
        ("RuntimeError", "[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711", True),
        ("RuntimeError", "NCCL communicator was aborted on rank 1", True),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied", False),
        ("ValueError", "Connection closed by peer", False),
    ],
)
def test_what_torch_says_of_a_rank_that_is_gone_is_a_consequence(kind: str, message: str, expected: bool) -> None:
    assert is_consequence(ErrorInfo(type=kind, message=message, traceback="", batches=0)) is expected


def test_rank_0_speaks_for_all_and_a_notice_is_heard_from_one_rank_as_often_as_it_says_it() -> None:
    trial = LiveTrial(TrialRow(experiment_id=1, trial_id=1, state=TrialState.QUEUED, hparams={}, seed=0))
    report = MetricsReported(**WHO, rank=1, batches=1, epochs=0.0, records=1, metrics={}, seconds=0.0)
    assert not counts(trial, report)
    assert counts(trial, WorkersLaunched(**WHO, rank=1))
    assert [counts(trial, Notice(**WHO, rank=rank, message="look")) for rank in (1, 0, 1, 2)] == [
        True,
        False,
        True,
        False,
    ]
    assert counts(trial, Notice(**WHO, rank=0, message="look there"))


def of_two(lab: Any, **hparams: Any) -> dict[str, Any]:
    return lab.config(launcher="local", **hparams) | {"resources": {"slots_per_trial": 2}}


@needs_two_cores
def test_two_ranks_run_to_their_end_and_are_one_trial_on_record(lab: Any) -> None:
    logger = Recording()
    summary = lab.run(lab.submit(of_two(lab)), [logger])
    assert summary["state"] == "COMPLETED"
    lab.run(alone := lab.submit(lab.config()))
    assert lab.values(1) == lab.values(alone)
    assert lab.notices(1).count("every rank says this") == 1
    with lab.reader() as reader:
        (run,) = reader.runs(1, 1)
    assert (run.slots, run.exit_codes, len(run.processes)) == (("cpu:0", "cpu:1"), (0, 0), 2)
    exits = [event for _, event in logger.calls if isinstance(event, TrialExited)]
    assert [(event.rank, event.outcome) for event in exits] == [(0, Outcome.COMPLETED)]
    specs = [json.loads(Path(lab.files(1).trial(1), f"worker-rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [(spec["rank"], spec["size"], [slot["id"] for slot in spec["slots"]]) for spec in specs] == [
        (0, 2, ["cpu:0"]),
        (1, 2, ["cpu:1"]),
    ]
    assert all(spec["environment"]["OMP_NUM_THREADS"] == str(spec["slots"][0]["threads"]) for spec in specs)


@needs_two_cores
@pytest.mark.parametrize("lost_first", [False, True])
def test_a_rank_that_fails_ends_the_others_and_the_trial_goes_on_from_its_checkpoint(
    lab: Any, lost_first: bool
) -> None:
    config = of_two(lab, do="raise", at=3, of_rank=1, in_runs=[1], lost_first=lost_first)
    summary = lab.run(lab.submit(config))
    assert (summary["state"], summary["trials"][0]["restarts"]) == ("COMPLETED", 1)
    assert "failed at batch 3 (ValueError: run 1); it goes on from batch 2" in lab.notices(1)
    lab.run(alone := lab.submit(lab.config()))
    assert lab.values(1) == lab.values(alone)
    with lab.reader() as reader:
        first, second = reader.runs(1, 1)
    assert first.error is not None
    assert (first.error.type, first.exit_codes[1]) == ("ValueError", 1)
    assert (second.start_batches, second.outcome) == (2, Outcome.COMPLETED)


@needs_two_cores
def test_a_rank_that_dies_without_a_word_is_named_and_the_trial_goes_on(lab: Any) -> None:
    summary = lab.run(lab.submit(of_two(lab, do="exit", code=7, at=3, of_rank=1, in_runs=[1])))
    assert (summary["state"], summary["trials"][0]["restarts"]) == ("COMPLETED", 1)
    assert "(rank 1 ended with status 7)" in lab.notices(1).replace("WorkerDied: ", "")


def test_a_command_without_the_launch_layer_is_run_once_with_all_slots(lab: Any) -> None:
    cores = len(os.sched_getaffinity(0))
    (lab.context / "train.py").write_text("")
    config = lab.config(launcher="local") | {
        "entrypoint": "python3 train.py",
        "resources": {"slots_per_trial": "auto"},
    }
    assert lab.run(lab.submit(config))["state"] == "COMPLETED"
    spec = json.loads(Path(lab.files(1).trial(1), "worker-rank0.json").read_text())
    assert (spec["rank"], spec["size"], len(spec["slots"])) == (0, 1, cores)
    assert spec["environment"]["OMP_NUM_THREADS"] == str(cores)
    assert "this command is run once, with all slots of its trial" in lab.notices(1)
