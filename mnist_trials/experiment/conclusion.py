"""What became of an experiment, by what became of its trials: a pure function."""

from __future__ import annotations

from collections import Counter

from mnist_trials.records import ExperimentState, TrialState


def conclude(ended: Counter[TrialState], why: str) -> tuple[ExperimentState, str]:
    """The state of an experiment that nobody ended and in which no trial is left, and what to say of it.

    It is an error only if every trial failed. `why` is why the search ended before its time, if it did.
    """
    failed, count = ended[TrialState.ERROR], ended.total()
    if not count:
        return ExperimentState.ERROR, _joined(why, "the searcher created no trial")
    if failed < count:
        return ExperimentState.COMPLETED, _joined(why, f"{failed} of {count} trials failed" if failed else "")
    return ExperimentState.ERROR, _joined(why, "its trial failed" if count == 1 else f"all {count} trials failed")


def _joined(*sentences: str) -> str:
    return "; ".join(sentence.rstrip(".") for sentence in sentences if sentence)
