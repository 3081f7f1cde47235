"""Ranks agree on what they do next, and say who differs where they must not."""

from __future__ import annotations

from typing import final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from mnist_trials.clock import Clock
from mnist_trials.errors import TrialError
from mnist_trials.events import GoOn, Request, StopRequest
from mnist_trials.plugin import Ranks
from mnist_trials.records import Outcome
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.agreement import first_of, require_same
from mnist_trials.training.leader import Leader
from tests.training.distributed.threads import on_ranks


@final
class Steps(Clock):
    """Each look is as many seconds after the one before as the next of `steps`, over and over."""

    def __init__(self, steps: list[float]) -> None:
        self._steps = steps
        self._looks = 0
        self._now = 0.0

    @override
    def monotonic(self) -> float:
        self._now += self._steps[self._looks % len(self._steps)]
        self._looks += 1
        return self._now

    @override
    def wall(self) -> float:
        return 0.0


def nothing() -> bool:
    return False


@settings(deadline=None, max_examples=50)
@given(
    mesh=st.sampled_from([(2, 1), (1, 2), (2, 2)]),
    asked_at=st.integers(1, 8),
    steps=st.lists(st.floats(0.0001, 2.0), min_size=1, max_size=5),
)
def test_all_ranks_stop_after_the_same_batch_however_fast_they_are(
    mesh: tuple[int, int], asked_at: int, steps: list[float]
) -> None:
    beats: list[int] = []

    def work(ranks: Ranks) -> tuple[int, StopRequest]:
        channel = RecordingChannel()
        if ranks.layout.rank == 0:
            channel.stop_at_poll(asked_at, Outcome.STOPPED)
        leader = Leader(ranks, channel, Steps(steps), lambda: beats.append(ranks.layout.rank), nothing)
        batches = 0
        while batches < 10_000:
            batches += 1
            request = leader.stop_requested()
            if request is not None:
                return batches, request
        raise AssertionError("nobody stops")

    done = on_ranks(*mesh, work)
    assert len(set(done)) == 1
    batches, request = done[0]
    assert request == StopRequest(Outcome.STOPPED)
    assert batches <= 1 + asked_at * 258
    assert all(beats.count(rank) == batches for rank in range(mesh[0] * mesh[1]))


def test_slow_batches_are_each_asked_about() -> None:
    def work(ranks: Ranks) -> int:
        channel = RecordingChannel()
        if ranks.layout.rank == 0:
            channel.stop_at_poll(10)
        leader = Leader(ranks, channel, Steps([1.0]), lambda: None, nothing)
        return next(batch for batch in range(1, 1000) if leader.stop_requested() is not None)

    assert on_ranks(2, 1, work) == [20, 20]  # a post after one batch, a look after the next


def test_what_rank_0_has_to_tell_is_known_to_all_after_the_same_batch() -> None:
    def work(ranks: Ranks) -> list[int]:
        asked: list[int] = []

        def has_news() -> bool:  # from the fourth time on, until all have heard it
            asked.append(ranks.layout.rank)
            return len(asked) >= 4

        leader = Leader(ranks, RecordingChannel(), Steps([0.3, 0.01, 1.0]), lambda: None, has_news)
        heard = []
        for batch in range(1, 400):
            assert leader.stop_requested() is None
            if leader.news:
                heard.append(batch)
                leader.news = False
                asked.clear()
        leader.finish()
        assert set(asked) <= {0}
        return heard

    first, *others = on_ranks(2, 2, work)
    assert len(first) > 3
    assert others == [first] * 3


def test_a_word_that_is_under_way_when_training_ends_is_taken_in() -> None:
    def work(ranks: Ranks) -> list[int]:
        leader = Leader(ranks, RecordingChannel(), Steps([1.0]), lambda: None, nothing)
        assert leader.stop_requested() is None
        leader.finish()
        leader.finish()
        return ranks.gather(ranks.layout.rank)

    assert on_ranks(2, 1, work) == [[0, 1], [0, 1]]


def test_the_word_for_a_held_trial_is_rank_0s() -> None:
    def work(ranks: Ranks) -> list[Request]:
        channel = RecordingChannel()
        if ranks.layout.rank == 0:
            channel.answers.extend([GoOn(7), StopRequest(Outcome.PAUSED)])
        leader = Leader(ranks, channel, Steps([1.0]), lambda: None, nothing)
        return [leader.wait_for_word(), leader.wait_for_word()]

    assert on_ranks(2, 2, work) == [[GoOn(7), StopRequest(Outcome.PAUSED)]] * 4


def test_what_differs_is_told_with_every_value_and_its_ranks_on_every_rank() -> None:
    def work(ranks: Ranks) -> str:
        require_same(ranks, "their shoes", "black", "Change them.")
        with pytest.raises(TrialError) as caught:
            require_same(ranks, "their hats", "red" if ranks.layout.rank in (0, 2) else "blue", "Change them.")
        return str(caught.value)

    text = "The processes of this trial differ in their hats. ranks 0, 2: red; ranks 1, 3: blue. Change them."
    assert on_ranks(4, 1, work) == [text] * 4


def test_the_lowest_rank_that_says_something_counts() -> None:
    def work(ranks: Ranks) -> list[str | None]:
        rank = ranks.layout.rank
        return [first_of(ranks, None), first_of(ranks, f"rank {rank}" if rank else None)]

    assert on_ranks(3, 1, work) == [[None, "rank 1"]] * 3
