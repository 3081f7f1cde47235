from __future__ import annotations

from dataclasses import replace

import pytest

from mnist_trials.experiment.verdict import End, RunEnd, judge
from mnist_trials.records import ErrorInfo, Outcome

DIED = RunEnd(
    outcome=None,
    error=None,
    exit_codes=(-9,),
    reason=None,
    started=True,
    batches=5,
    command=False,
    reported=True,
    asked=None,
)
ERROR = ErrorInfo(type="ValueError", message="no", traceback="", batches=5)
FAILED = replace(DIED, outcome=Outcome.FAILED, error=ERROR, exit_codes=(1,))


def end(run: RunEnd, previous: ErrorInfo | None = None, restarts: int = 0, max_restarts: int = 5) -> End:
    return judge(run, previous=previous, restarts=restarts, max_restarts=max_restarts).end


def words(run: RunEnd, **known: object) -> str:
    return judge(run, **{"previous": None, "restarts": 0, "max_restarts": 5, **known}).message  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.COMPLETED, End.COMPLETED),
        (Outcome.STOPPED, End.STOPPED),
        (Outcome.PAUSED, End.PAUSED),
        (Outcome.CANCELED, End.CANCELED),
    ],
)
@pytest.mark.parametrize("asked", [None, Outcome.PAUSED, Outcome.CANCELED, Outcome.STOPPED])
def test_the_workers_own_word_counts_whatever_was_asked(outcome: Outcome, expected: End, asked: Outcome | None) -> None:
    assert end(replace(DIED, outcome=outcome, asked=asked)) is expected


def test_a_worker_that_died_while_it_was_to_stop_or_cancel_is_taken_as_stopped_or_cancelled() -> None:
    assert end(replace(DIED, asked=Outcome.STOPPED)) is End.STOPPED
    assert end(replace(DIED, asked=Outcome.CANCELED)) is End.CANCELED
    assert end(replace(FAILED, asked=Outcome.STOPPED)) is End.STOPPED
    assert end(replace(FAILED, asked=Outcome.CANCELED)) is End.CANCELED


def test_a_worker_that_died_while_it_was_to_pause_goes_on_later_from_its_latest_checkpoint() -> None:
    assert end(replace(DIED, asked=Outcome.PAUSED)) is End.PAUSED
    assert end(replace(DIED, asked=Outcome.PAUSED), restarts=5) is End.PAUSED


def test_an_exception_while_pausing_is_a_failure_like_any_other() -> None:
    assert end(replace(FAILED, asked=Outcome.PAUSED)) is End.RESTART


def test_an_exception_is_the_same_only_with_the_same_type_message_and_batch() -> None:
    assert end(FAILED, ERROR) is End.ERROR
    for other in (replace(ERROR, type="KeyError"), replace(ERROR, message="yes"), replace(ERROR, batches=6), None):
        assert end(FAILED, other) is End.RESTART
    assert end(FAILED, replace(ERROR, traceback="another")) is End.ERROR


def test_a_signal_from_outside_says_nothing_about_the_trial_and_may_come_again() -> None:
    previous = judge(DIED, previous=None, restarts=0, max_restarts=5).error
    assert end(DIED, previous) is End.RESTART
    assert end(DIED, previous, restarts=5) is End.ERROR


def test_a_crash_that_repeats_at_the_same_batch_is_not_tried_again() -> None:
    for codes in ((-11,), (3,), (0, 1)):
        run = replace(DIED, exit_codes=codes)
        previous = judge(run, previous=None, restarts=0, max_restarts=5).error
        assert end(run, previous) is End.ERROR


def test_words_for_how_processes_died() -> None:
    assert "rank 0 was ended by SIGKILL (out of memory, perhaps)" in words(DIED)
    assert "rank 1 was ended by SIGSEGV" in words(replace(DIED, exit_codes=(0, -11)))
    assert "rank 0 was ended by signal 99" in words(replace(DIED, exit_codes=(-99,)))
    assert "rank 0 ended with status 3; rank 1 ended, how is not known" in words(replace(DIED, exit_codes=(3, None)))
    assert "no such program" in words(replace(DIED, exit_codes=(None,), reason="no such program"))


def test_a_command_that_ended_well_is_complete_if_it_reported_anything() -> None:
    quiet = replace(DIED, exit_codes=(0,), command=True, reported=False)
    assert end(replace(quiet, reported=True)) is End.COMPLETED
    assert end(quiet) is End.ERROR
    assert "mnist_trials.init()" in words(quiet)
    assert end(replace(quiet, command=False, reported=True)) is End.RESTART


def test_a_command_that_fails_after_its_training_has_failed_and_a_trial_class_has_not() -> None:
    done = replace(DIED, outcome=Outcome.COMPLETED, exit_codes=(0, 3), command=True)
    assert words(done) == "WorkerDied: its training was complete, then rank 1 ended with status 3"
    assert end(done) is End.RESTART
    assert end(done, judge(done, previous=None, restarts=0, max_restarts=5).error) is End.ERROR
    assert end(replace(done, asked=Outcome.COMPLETED)) is End.COMPLETED
    assert end(replace(done, command=False)) is End.COMPLETED
    for codes in ((0, 0), (0, None), ()):
        assert end(replace(done, exit_codes=codes)) is End.COMPLETED
    assert end(replace(done, outcome=Outcome.PAUSED)) is End.PAUSED


def test_invalid_hyperparameters_are_told_with_the_reason() -> None:
    run = replace(DIED, outcome=Outcome.INVALID_HP, error=replace(ERROR, type="InvalidHP", message="lr is 9"))
    assert end(run) is End.INVALID_HP
    assert words(run) == "its hyperparameters make no sense: lr is 9"
    assert words(replace(run, error=None)).endswith("no reason given")


def test_a_rank_that_was_killed_because_of_another_is_not_blamed() -> None:
    segfault = replace(DIED, exit_codes=(-9, -11, -9))
    assert "rank 1 was ended by SIGSEGV" in words(segfault)
    assert "rank 0" not in words(segfault)
    previous = judge(segfault, previous=None, restarts=0, max_restarts=5).error
    assert end(segfault, previous) is End.ERROR  # no signal from outside
    assert "rank 1 was ended by SIGTERM" in words(replace(DIED, exit_codes=(-9, -15)))


def test_of_ranks_that_were_all_killed_none_is_blamed_and_it_may_come_again() -> None:
    killed = replace(DIED, exit_codes=(-9, -9))
    assert "one of the ranks 0, 1 was ended by SIGKILL (out of memory, perhaps)" in words(killed)
    assert end(killed, judge(killed, previous=None, restarts=0, max_restarts=5).error) is End.RESTART


def test_a_machine_that_is_lost_may_be_lost_again_and_is_named_before_what_other_ranks_say_of_it() -> None:
    lost = replace(DIED, exit_codes=(None, None), reason="node 10.0.0.7 is gone")
    assert words(lost) == "WorkersLost: node 10.0.0.7 is gone"
    assert end(lost, judge(lost, previous=None, restarts=0, max_restarts=5).error) is End.RESTART
    peer = ErrorInfo(type="DistNetworkError", message="peer is gone", traceback="", batches=5)
    assert words(replace(lost, outcome=Outcome.FAILED, error=peer)) == "WorkersLost: node 10.0.0.7 is gone"
    assert words(replace(lost, outcome=Outcome.FAILED, error=ERROR)) == "ValueError: no"


def test_workers_that_cannot_be_started_are_tried_once_more_only() -> None:
    never = replace(DIED, exit_codes=(None,), reason="no such program", started=False)
    assert words(never) == "WorkersNotStarted: no such program"
    assert end(never, judge(never, previous=None, restarts=0, max_restarts=5).error) is End.ERROR
