from __future__ import annotations

from collections.abc import Callable

import pytest

from mnist_trials.config import load
from mnist_trials.errors import ConfigError, InvalidHP, TrialError
from mnist_trials.units import Batch
from mnist_trials.worker.failure import describe, format_traceback


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def caught(function: Callable[[], object]) -> BaseException:
    """What `function` raises, with the frames from its own on."""
    with pytest.raises(BaseException) as info:  # noqa: PT011 - any
        function()
    error = info.value
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)


def test_our_own_mistakes_keep_their_frames() -> None:
    error = caught(lambda: Batch(0))
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # from our code on
    assert "mnist_trials/units.py" in format_traceback(error)


def test_an_error_raised_on_purpose_ends_at_the_users_frame() -> None:
    shown = format_traceback(caught(lambda: load("/nowhere/x.yaml")))
    assert "test_failure.py" in shown
    assert "mnist_trials/config" not in shown
    assert shown.endswith("mnist_trials.errors.ConfigError: /nowhere/x.yaml: there is no such file.\n")


def test_the_cause_of_an_error_is_shown_too() -> None:
    def chained() -> None:
        try:
            load("/nowhere/x.yaml")
        except ConfigError as error:
            raise ValueError("mine") from error

    shown = format_traceback(caught(chained))
    assert "there is no such file" in shown
    assert shown.endswith("ValueError: mine\n")
    assert "mnist_trials/config" not in shown


def test_a_record_of_an_error_has_bounds() -> None:
    info = describe(ValueError("begin" + "x" * 5_000_000 + "end"), 1)
    assert len(info.message) < 5_000
    assert len(info.traceback) < 50_000
    assert info.message.startswith("begin")
    assert "characters left out" in info.message
    assert info.message.endswith("end")


@pytest.mark.parametrize(
    ("error", "kind", "message", "retryable"),
    [
        (ValueError("mine"), "ValueError", "mine", True),
        (OSError(28, "No space left on device"), "OSError", "[Errno 28] No space left on device", True),
        (KeyError("lr"), "KeyError", "'lr'", True),
        (TrialError("a rule"), "TrialError", "a rule", False),
        (InvalidHP("senseless"), "InvalidHP", "senseless", True),
        (ConfigError([]), "ConfigError", "", False),
        (ValueError("caf\udce9"), "ValueError", "caf\\udce9", True),
        (Unspeakable(), "Unspeakable", "<its text cannot be had: __str__ raises>", True),
        (SystemExit("bye"), "SystemExit", "the trial called sys.exit('bye')", False),
    ],
)
def test_the_record_of_an_error(error: BaseException, kind: str, message: str, retryable: bool) -> None:
    info = describe(error, 17)
    assert (info.type, info.message, info.batches, info.retryable) == (kind, message, 17, retryable)
