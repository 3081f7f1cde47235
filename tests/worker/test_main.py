"""A whole run in this process: what is told, and what is printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mnist_trials.errors import UsageError
from mnist_trials.events import (
    CheckpointSaved,
    Event,
    GoOn,
    Notice,
    StopRequest,
    TrialExited,
    TrialHeld,
    TrialStarted,
    ValidationCompleted,
)
from mnist_trials.records import ErrorInfo, Outcome
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.worker.init import in_experiment
from mnist_trials.worker.main import run
from tests.worker.conftest import SpecMaker

pytestmark = pytest.mark.usefixtures("own_modules")


def exited(channel: RecordingChannel) -> TrialExited:
    (event,) = channel.of(TrialExited)
    assert channel.events[-1] is event
    return event


def error_of(channel: RecordingChannel) -> ErrorInfo:
    error = exited(channel).error
    assert error is not None
    return error


def test_a_trial_trains_to_its_end(spec: SpecMaker) -> None:
    channel = RecordingChannel()
    assert run(spec(), channel) == 0
    kinds = [type(event) for event in channel.events]
    assert kinds[0] is TrialStarted
    assert ValidationCompleted in kinds
    assert CheckpointSaved in kinds
    assert exited(channel) == TrialExited(trial_id=2, run=3, outcome=Outcome.COMPLETED, batches=20)


def test_float16_on_a_cpu_is_told_to_be_slow(spec: SpecMaker) -> None:
    for precision, told in (("fp16-mixed", True), ("bf16-mixed", False)):
        given, channel = spec(), RecordingChannel()
        assert run(replace(given, config={**given.config, "precision": precision}), channel) == 0
        assert any("Use fp32 or bf16-mixed on a CPU" in notice.message for notice in channel.of(Notice)) is told


@pytest.mark.parametrize("outcome", [Outcome.PAUSED, Outcome.STOPPED, Outcome.CANCELED])
def test_a_request_ends_it_with_the_outcome_asked_for(spec: SpecMaker, outcome: Outcome) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(7, outcome)
    assert run(spec(), channel) == 0
    last = exited(channel)
    assert last.outcome is outcome
    assert 0 < last.batches < 20
    assert channel.of(CheckpointSaved)[-1].checkpoint.batches == last.batches


def test_it_is_held_and_ends_with_the_outcome_it_is_told(spec: SpecMaker) -> None:
    for outcome in (Outcome.PAUSED, Outcome.STOPPED, Outcome.COMPLETED):
        channel = RecordingChannel()
        channel.answers.extend([GoOn(11), StopRequest(outcome)])
        assert run(replace(spec(), until=6, validate_at=(3,)), channel) == 0
        assert [event.batches for event in channel.of(TrialHeld)] == [6, 11]
        assert [event.batches for event in channel.of(ValidationCompleted)] == [3, 6, 11]
        assert exited(channel) == TrialExited(trial_id=2, run=3, outcome=outcome, batches=11)
        assert channel.of(CheckpointSaved)[-1].checkpoint.batches == 11


def test_it_starts_with_the_weights_of_another_trial(spec: SpecMaker) -> None:
    channel = RecordingChannel()
    run(spec(), channel)
    source = channel.of(CheckpointSaved)[-1].checkpoint
    for warm_start in (source.uuid, source.location):
        again = RecordingChannel()
        assert run(replace(spec(), warm_start=warm_start), again) == 0
        (started,) = again.of(TrialStarted)
        assert (started.batches, started.checkpoint) == (0, source.uuid)
        assert "starts with the weights of" in again.of(Notice)[0].message


def test_weights_that_do_not_fit_are_an_error_for_good(spec: SpecMaker, project: Path) -> None:
    channel = RecordingChannel()
    run(spec(), channel)
    source = channel.of(CheckpointSaved)[-1].checkpoint.uuid
    code = (
        (project / "model.py").read_text().replace("Linear(4, 2)", "Linear(4, 3)").replace("class Tiny", "class Other")
    )
    (project / "other.py").write_text(code)
    again = RecordingChannel()
    assert run(replace(spec("other:Other"), warm_start=source), again) == 1
    error = error_of(again)
    assert f"cannot start with the weights of the checkpoint {source}" in error.message
    assert not error.retryable


def test_it_goes_on_from_its_checkpoint(spec: SpecMaker) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(7)
    run(spec(), channel)
    saved = channel.of(CheckpointSaved)[-1].checkpoint
    again = RecordingChannel()
    assert run(replace(spec(), checkpoints=(saved.uuid,)), again) == 0
    assert again.of(TrialStarted)[0].batches == saved.batches
    assert exited(again).batches == 20


def test_an_exception_is_told_and_printed_from_the_users_own_code_on(
    spec: SpecMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    channel = RecordingChannel()
    assert run(spec(fail_at=13, fail_by="raise ValueError('mine')"), channel) == 1
    error = error_of(channel)
    assert (error.type, error.message, error.batches, error.retryable) == ("ValueError", "mine", 13, True)
    lines = error.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "project/model.py" in lines[1]
    assert "in train_batch" in lines[1]
    assert lines[-1] == "ValueError: mine"
    assert capfd.readouterr().err.endswith(error.traceback)
    assert exited(channel).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("code", "kind", "message", "retryable"),
    [
        ("import sys; sys.exit(0)", "SystemExit", "the trial called sys.exit(0)", False),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "interrupted", False),
        ("import bdb; raise bdb.BdbQuit", "BdbQuit", "the debugger was left", False),
        ("raise MemoryError('too much')", "MemoryError", "too much", True),
        ("import nothing_like_it", "ModuleNotFoundError", "No module named 'nothing_like_it'", False),
    ],
)
def test_ways_to_end_are_told_apart(spec: SpecMaker, code: str, kind: str, message: str, retryable: bool) -> None:
    channel = RecordingChannel()
    assert run(spec(fail_at=0, fail_by=code), channel) == 1
    error = error_of(channel)
    assert (error.type, error.message, error.retryable) == (kind, message, retryable)


def test_hyperparameters_that_make_no_sense_are_an_outcome_of_their_own(spec: SpecMaker) -> None:
    channel = RecordingChannel()
    assert run(spec(nonsense=True), channel) == 1
    assert exited(channel).outcome is Outcome.INVALID_HP
    assert error_of(channel).message == "no trial can be like this"


def test_a_missing_hyperparameter_is_a_mistake_to_be_corrected(spec: SpecMaker) -> None:
    channel = RecordingChannel()
    assert run(spec(fail_at=0, fail_by="self.context.hparams['lerning_rate']"), channel) == 1
    error = error_of(channel)
    assert not error.retryable
    assert "lerning_rate" in error.message
    assert "learning_rate" in error.message
    assert "mnist_trials/training" not in error.traceback


def test_a_loss_that_is_not_a_number_ends_the_trial_for_good(spec: SpecMaker) -> None:
    code = "self.model.weight.data.fill_(float('nan'))"
    channel = RecordingChannel()
    assert run(spec(fail_at=4, fail_by=code), channel) == 1
    error = error_of(channel)
    assert error.type == "NonFiniteLoss"
    assert not error.retryable


def test_a_backend_that_is_not_there_is_told_without_a_traceback(spec: SpecMaker) -> None:
    channel = RecordingChannel()
    made = spec()
    assert run(replace(made, slots=(replace(made.slot, backend="cpuu"),)), channel) == 1
    error = error_of(channel)
    assert error.message.startswith("No backend is named 'cpuu'. Did you mean 'cpu'?")
    assert not error.retryable
    assert error.traceback == f"mnist_trials.errors.PluginError: {error.message}\n"


def test_a_config_that_cannot_be_read_is_told(spec: SpecMaker) -> None:
    channel = RecordingChannel()
    made = spec()
    assert run(replace(made, config={**made.config, "searchr": {}}), channel) == 1
    assert "searchr" in error_of(channel).message


def test_a_trial_class_must_not_call_init(spec: SpecMaker) -> None:
    channel = RecordingChannel()
    code = "import mnist_trials as mt; assert mt.in_experiment(); mt.init().__enter__()"
    assert run(spec(fail_at=0, fail_by=code), channel) == 1
    error = error_of(channel)
    assert error.type == UsageError.__name__
    assert "A Trial class is given its context by the runtime" in error.message
    assert not in_experiment()


SCRIPT = """
import mnist_trials as mt
from model import Tiny

with mt.init(hparams={"fail_at": 0}) as context:
    print("trial", context.trial_id, mt.in_experiment(), dict(context.hparams))
    trainer = mt.Trainer(Tiny(context), context)
    result = trainer.fit(max_length=mt.Batch(12))
print("after", result.batches)
"""


def script(project: Path, code: str) -> list[str]:
    (project / "train.py").write_text(code)
    return ["python3", "train.py"]


@pytest.fixture
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the launcher `inline` prepares it."""
    monkeypatch.chdir(project)


@pytest.mark.usefixtures("in_project")
class TestScripts:
    """Commands that are run in this process, as the launcher `inline` does."""

    def test_a_script_has_the_context_of_its_trial(
        self, spec: SpecMaker, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        channel = RecordingChannel()
        assert run(spec(script(project, SCRIPT), extra=1), channel) == 0
        assert exited(channel) == TrialExited(trial_id=2, run=3, outcome=Outcome.COMPLETED, batches=12)
        printed = capsys.readouterr().out
        assert "trial 2 True" in printed
        assert "'extra': 1" in printed
        assert "fail_at" not in printed
        assert printed.endswith("after 12\n")

    def test_a_request_ends_the_training_and_the_script_goes_on(
        self, spec: SpecMaker, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        channel = RecordingChannel()
        channel.stop_at_poll(5)
        assert run(spec(script(project, SCRIPT)), channel) == 0
        assert exited(channel).outcome is Outcome.PAUSED
        assert "after" in capsys.readouterr().out

    def test_a_script_is_held_too(self, spec: SpecMaker, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        channel = RecordingChannel()
        channel.answers.extend([GoOn(8), StopRequest(Outcome.COMPLETED, "enough")])
        assert run(replace(spec(script(project, SCRIPT)), until=5, validate_at=(2,)), channel) == 0
        assert [event.batches for event in channel.of(TrialHeld)] == [5, 8]
        assert [event.batches for event in channel.of(ValidationCompleted)] == [2, 5, 8]
        assert exited(channel) == TrialExited(trial_id=2, run=3, outcome=Outcome.COMPLETED, batches=8)
        assert capsys.readouterr().out.endswith("after 8\n")

    def test_an_exception_in_the_block_is_told_once(self, spec: SpecMaker, project: Path) -> None:
        channel = RecordingChannel()
        command = script(project, SCRIPT)
        assert run(spec(command, fail_at=3, fail_by="raise ValueError('mine')"), channel) == 1
        error = error_of(channel)
        assert (error.type, error.batches) == ("ValueError", 3)
        assert "train.py" in error.traceback.splitlines()[1]

    def test_a_block_that_is_never_left_ends_with_the_script(self, spec: SpecMaker, project: Path) -> None:
        channel = RecordingChannel()
        assert run(spec(script(project, "import mnist_trials as mt\nc = mt.init()\nc.__enter__()")), channel) == 0
        assert exited(channel).outcome is Outcome.COMPLETED

    def test_an_exception_in_a_block_that_is_never_left_is_told(self, spec: SpecMaker, project: Path) -> None:
        channel = RecordingChannel()
        assert run(spec(script(project, "import mnist_trials as mt\nmt.init().__enter__()\n1 / 0")), channel) == 1
        assert error_of(channel).type == "ZeroDivisionError"

    @pytest.mark.parametrize(("code", "outcome"), [(0, Outcome.COMPLETED), (2, Outcome.FAILED)])
    def test_leaving_by_sys_exit_counts_as_its_status_says(
        self, spec: SpecMaker, project: Path, code: int, outcome: Outcome
    ) -> None:
        channel = RecordingChannel()
        text = f"import sys\nimport mnist_trials as mt\nwith mt.init():\n    sys.exit({code})"
        assert run(spec(script(project, text)), channel) == code
        assert exited(channel).outcome is outcome

    def test_a_script_that_fails_after_its_block_has_failed(self, spec: SpecMaker, project: Path) -> None:
        channel = RecordingChannel()
        assert run(spec(script(project, f"{SCRIPT}\n1 / 0")), channel) == 1
        error = error_of(channel)
        assert (error.type, error.batches) == ("ZeroDivisionError", 12)

    def test_options_of_the_launch_layer_are_said_to_have_no_effect(self, spec: SpecMaker, project: Path) -> None:
        channel = RecordingChannel()
        layer = ["python3", "-m", "mnist_trials.launch.torch_distributed", "--nnodes", "2", "--"]
        assert run(spec([*layer, *script(project, SCRIPT)]), channel) == 0
        assert "`--nnodes 2` have no effect" in channel.of(Notice)[0].message
        assert exited(channel).outcome is Outcome.COMPLETED

    def test_the_context_can_be_had_once(self, spec: SpecMaker, project: Path) -> None:
        channel = RecordingChannel()
        text = "import mnist_trials as mt\nwith mt.init(): pass\nwith mt.init(): pass"
        assert run(spec(script(project, text)), channel) == 1
        assert "in use already" in error_of(channel).message

    def test_a_script_that_never_connects_tells_nothing(self, spec: SpecMaker, project: Path) -> None:
        channel = RecordingChannel()
        assert run(spec(script(project, "print('hello')")), channel) == 0
        events: list[Event] = channel.events
        assert events == []
