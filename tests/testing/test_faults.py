import errno
import signal
import subprocess
import sys

import pytest

from mnist_trials.testing.faults import fault_point, fault_points


def test_without_the_variable_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_TRIALS_FAULT", raising=False)
    fault_point("here")


@pytest.mark.parametrize(("action", "code"), [("raise", errno.EIO), ("enospc", errno.ENOSPC)])
def test_an_operation_fails_at_its_point_only(monkeypatch: pytest.MonkeyPatch, action: str, code: int) -> None:
    monkeypatch.setenv("MNIST_TRIALS_FAULT", f"only.{action}:{action}")
    fault_point("elsewhere")
    with pytest.raises(OSError, match=r"only\.") as error:
        fault_point(f"only.{action}")
    assert error.value.errno == code
    fault_point(f"only.{action}")


def test_the_nth_time_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_TRIALS_FAULT", "third:raise:3")
    fault_point("third")
    fault_point("third")
    with pytest.raises(OSError, match="third"):
        fault_point("third")


def test_a_process_is_killed_at_its_point() -> None:
    program = "from mnist_trials.testing.faults import fault_point; fault_point('a'); fault_point('b'); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"MNIST_TRIALS_FAULT": "b:kill"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


@pytest.mark.parametrize(
    "fault", ["", "name", "name:", ":kill", "name:explode", "name:kill:x", "name:kill:0", "name:kill:-1"]
)
def test_a_value_that_says_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setenv("MNIST_TRIALS_FAULT", fault)
    with pytest.raises(ValueError, match=r"must be NAME:ACTION\[:N\] with an action of kill, raise, enospc, not"):
        fault_point("name")


def test_every_point_of_the_package_is_listed_with_its_file() -> None:
    points = fault_points()
    assert points["checkpoint.begun"].name == "writer.py"
    assert "checkpoint.manifest_written" in points


def test_production_code_gets_neither_pytest_nor_torch_from_it() -> None:
    program = (
        "import sys, mnist_trials.testing.faults;"
        "assert not {'pytest', '_pytest', 'torch', 'hypothesis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
