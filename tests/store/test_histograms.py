"""What `watch` asks for, in the store."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from mnist_trials.records import Histogram
from mnist_trials.store import Store, open_reader
from mnist_trials.store.rows import HistogramRow
from mnist_trials.store.transaction import MOST_HISTOGRAMS


def row(batches: int, mean: float = 0.5, number: int = 1) -> HistogramRow:
    histograms = tuple(
        Histogram(
            kind=kind,
            name="café.weight",
            size=8,
            not_finite=0,
            minimum=-1.0,
            maximum=2.0,
            mean=mean,
            std=None,
            counts=(3, 0, 5),
        )
        for kind in ("parameters", "gradients")
    )
    return HistogramRow(trial_id=1, run=number, batches=batches, epochs=0.5, records=4, histograms=histograms, time=2.0)


def points(home: Path, after: int = -1) -> list[int]:
    with open_reader(home) as reader:
        return [each.batches for each in reader.histograms(1, 1, after)]


def test_histograms_are_read_as_they_were_written_in_the_order_of_training(with_trial: Store, home: Path) -> None:
    with with_trial.transaction() as transaction:
        for batches in (20, 10):
            transaction.add_histograms(1, row(batches))
    with open_reader(home) as reader:
        assert reader.histograms(1, 1) == [row(10), row(20)]
    assert points(home, after=10) == [20]


def test_those_of_a_later_run_take_the_place_of_those_at_the_same_point(with_trial: Store, home: Path) -> None:
    with with_trial.transaction() as transaction:
        transaction.add_histograms(1, row(10))
        transaction.add_histograms(1, row(10, mean=0.75, number=2))
    with open_reader(home) as reader:
        assert reader.histograms(1, 1) == [row(10, mean=0.75, number=2)]


def test_those_beyond_the_point_where_a_trial_goes_on_are_given_up(with_trial: Store, home: Path) -> None:
    with with_trial.transaction() as transaction:
        for batches in (10, 20, 30):
            transaction.add_histograms(1, row(batches))
        transaction.forget_histograms(1, 1, 20)
    assert points(home) == [10, 20]


def test_a_trial_keeps_a_limited_number_of_points_evenly_spread_and_the_newest(with_trial: Store, home: Path) -> None:
    with with_trial.transaction() as transaction:
        for batches in range(1, 4 * MOST_HISTOGRAMS + 2):
            transaction.add_histograms(1, row(batches))
    kept = points(home)
    assert len(kept) <= MOST_HISTOGRAMS
    assert kept[0] == 1
    assert kept[-1] == 4 * MOST_HISTOGRAMS + 1
    gaps = [later - earlier for earlier, later in pairwise(kept)]
    assert max(gaps) <= 2 * min(gaps[:-1])


def test_they_go_with_the_experiment(with_trial: Store, home: Path) -> None:
    with with_trial.transaction() as transaction:
        transaction.add_histograms(1, row(10))
        transaction.delete_experiment(1)
    with with_trial.transaction() as transaction:
        assert transaction._connection.execute("SELECT count(*) FROM histograms").fetchone()[0] == 0
