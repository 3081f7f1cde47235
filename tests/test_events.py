from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_trials import events
from mnist_trials.records import CheckpointInfo, ErrorInfo, Histogram, Outcome, ProcessIdentity

who = st.fixed_dictionaries({"trial_id": st.integers(1), "run": st.integers(1), "rank": st.integers(0, 7)})
values = st.dictionaries(st.text(), st.none() | st.floats(allow_nan=False, allow_infinity=False))
errors = st.builds(
    ErrorInfo, type=st.text(), message=st.text(), traceback=st.text(), batches=st.integers(0), retryable=st.booleans()
)
HISTOGRAM = Histogram(
    kind="gradients",
    name="fc1.weight",
    size=8,
    not_finite=1,
    minimum=-1.0,
    maximum=2.0,
    mean=0.5,
    std=0.25,
    counts=(3, 0, 4),
)
EXAMPLES: list[events.Event] = [
    events.WorkersLaunched(trial_id=1, run=1, processes=(ProcessIdentity(pid=5, start_time="77", boot_id="b"),)),
    events.TrialStarted(trial_id=1, run=2, pid=5, host="h", backend="cpu", device="cpu", batches=3, checkpoint=None),
    events.DatasetChosen(trial_id=1, run=1, dataset="digits", detail="no MNIST", fallback=True),
    events.Notice(trial_id=1, run=1, message="said"),
    events.ProgressReported(trial_id=1, run=1, batches=1, epochs=0.5, records=64, total_batches=None),
    events.MetricsReported(trial_id=1, run=1, batches=1, epochs=0.5, records=64, metrics={"loss": None}, seconds=0.1),
    events.ValidationCompleted(trial_id=1, run=1, batches=1, epochs=0.5, records=64, metrics={"a": 1.0}, seconds=0.1),
    events.TrialTested(
        trial_id=1, run=1, batches=1, epochs=0.5, records=64, checkpoint="u", metrics={"test_loss": 1.0}, seconds=0.1
    ),
    events.HistogramsReported(
        trial_id=1, run=1, batches=1, epochs=0.5, records=64, histograms=(HISTOGRAM, replace(HISTOGRAM, mean=None))
    ),
    events.CheckpointSaved(
        trial_id=1,
        run=1,
        checkpoint=CheckpointInfo(uuid="u", batches=1, epochs=0.5, records=64, metrics={}, bytes=9, location="/x"),
    ),
    events.CheckpointRejected(trial_id=1, run=1, uuid="u", reason="a bit flipped"),
    events.TrialHeld(trial_id=1, run=1, batches=8),
    events.TrialExited(trial_id=1, run=1, outcome=Outcome.COMPLETED, batches=1),
    events.WorkersExited(trial_id=1, run=1, exit_codes=(0, -9, None)),
]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_survives_json_unchanged(event: events.Event) -> None:
    assert events.from_json(json.loads(json.dumps(events.to_json(event), allow_nan=False))) == event


def test_the_examples_name_every_kind_of_event() -> None:
    # By name: a dataclass with slots leaves its first self behind among the subclasses.
    assert {type(example).__name__ for example in EXAMPLES} == {cls.__name__ for cls in events.Event.__subclasses__()}


@given(who, values, st.integers(0), st.floats(0, 1e6))
def test_metrics_of_any_name_survive_json(
    fields: dict[str, int], metrics: dict[str, float | None], batches: int, epochs: float
) -> None:
    event = events.MetricsReported(**fields, batches=batches, epochs=epochs, records=0, metrics=metrics, seconds=0.0)
    assert events.from_json(json.loads(json.dumps(events.to_json(event)))) == event


@given(who, errors)
def test_an_error_survives_json(fields: dict[str, int], error: ErrorInfo) -> None:
    event = events.TrialExited(**fields, outcome=Outcome.FAILED, batches=3, error=error)
    assert events.from_json(json.loads(json.dumps(events.to_json(event)))) == event


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"type": "Nonsense"}, "no event is called 'Nonsense'"),
        ({}, "no event is called None"),
        ({"type": "Notice", "trial_id": 1, "run": 1}, "message"),
        ({"type": "Notice", "trial_id": 1, "run": 1, "message": "", "extra": 1}, "has no field"),
    ],
)
def test_a_document_that_is_no_event_is_refused(document: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        events.from_json(document)


@pytest.mark.parametrize(
    "request_",
    [events.GoOn(), events.GoOn(64), events.StopRequest(Outcome.PAUSED), events.StopRequest(Outcome.STOPPED, "why")],
)
def test_a_request_survives_json_unchanged(request_: events.Request) -> None:
    assert events.request_from_json(json.loads(json.dumps(events.request_to_json(request_)))) == request_


@pytest.mark.parametrize(
    "document", [{}, {"type": "GoOn"}, {"type": "GoOn", "until": "x"}, {"type": "StopRequest", "outcome": "x"}]
)
def test_a_document_that_is_no_request_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no request is written as"):
        events.request_from_json(document)


def test_the_bins_of_a_histogram_span_its_values() -> None:
    assert HISTOGRAM.edges() == [-1.0, 0.0, 1.0, 2.0]
    assert replace(HISTOGRAM, minimum=4.0, maximum=4.0, counts=(0, 7)).edges() == [3.5, 4.0, 4.5]
    assert replace(HISTOGRAM, minimum=None, maximum=None, counts=(0,)).edges() == [-0.5, 0.5]


def test_values_that_are_not_finite_become_none() -> None:
    assert events.finite({"a": math.nan, "b": math.inf, "c": 1.0}) == {"a": None, "b": None, "c": 1.0}
