"""`python3 -m mnist_trials.launch.torch_distributed` outside experiments, with commands of any kind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnist_trials.config.launch_layer import LAUNCH_LAYER, WORKER_VARIABLE
from mnist_trials.launch.torch_distributed import main
from mnist_trials.testing.launcher import is_alive
from mnist_trials.testing.waiting import wait_until

DEADLINE = 120.0
LAYER = [sys.executable, "-m", LAUNCH_LAYER]

PLACE = """
import json, os, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "GLOO_SOCKET_IFNAME", "TORCHELASTIC_RESTART_COUNT")
print(json.dumps({name: os.environ[name] for name in names}), end="")
sys.stdout.flush()
print("\\nsecond line", *sys.argv[1:])
os.write(2, b"bytes \\xff, no end")
rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
if rank == 1 and attempt == 0:
    HOW
"""

FAMILY = """
import json, os, pathlib, subprocess, time
pids = [subprocess.Popen(["sleep", "600"], process_group=group).pid for group in (None, 0)]
path = pathlib.Path(os.environ["RANK"])
path.with_suffix(".new").write_text(json.dumps([os.getpid(), *pids]))
path.with_suffix(".new").rename(path)
time.sleep(600)
"""


def environment() -> dict[str, str]:
    hidden = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "RANK", "WORLD_SIZE", WORKER_VARIABLE)
    return {name: value for name, value in os.environ.items() if name not in hidden}


def launched(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*LAYER, *words], cwd=folder, env=environment(), capture_output=True, timeout=DEADLINE, check=False
    )


@contextmanager
def launching(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """The layer at work; what it started must have ended by itself at the end."""
    with subprocess.Popen([*LAYER, *words], cwd=folder, env=environment(), stderr=subprocess.PIPE) as process:
        late = threading.Timer(DEADLINE, process.kill)
        late.start()
        try:
            yield process
        finally:
            late.cancel()
            process.kill()


def families(folder: Path) -> list[int]:
    """The pids of both ranks that run FAMILY, and of their children."""
    files = [folder / "0", folder / "1"]
    wait_until(lambda: all(file.exists() for file in files))
    pids = [pid for file in files for pid in json.loads(file.read_text())]
    assert all(map(is_alive, pids))
    return pids


def script(folder: Path, code: str) -> list[str]:
    (folder / "script.py").write_text(code)
    return ["python3", "script.py"]


def test_each_rank_finds_its_place_and_its_lines_are_marked(tmp_path: Path) -> None:
    done = launched(tmp_path, "--slots", "2", *script(tmp_path, PLACE.replace("HOW", "pass")), "--", "a b")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert sorted(line for line in lines if "second" in line) == [f"[rank={r}] second line -- a b" for r in (0, 1)]
    places = sorted(line.removeprefix("[rank=0] ").removeprefix("[rank=1] ") for line in lines if "second" not in line)
    assert [json.loads(place) for place in places] == [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "GLOO_SOCKET_IFNAME": "lo",
            "TORCHELASTIC_RESTART_COUNT": "0",
        }
        for rank in (0, 1)
    ]
    assert sorted(done.stderr.splitlines()) == [b"[rank=0] bytes \xff, no end", b"[rank=1] bytes \xff, no end"]


def test_one_slot_works_the_same_and_prints_as_it_is(tmp_path: Path) -> None:
    done = launched(tmp_path, "--slots", "1", *script(tmp_path, PLACE.replace("HOW", "pass")))
    assert done.returncode == 0
    place, second = done.stdout.decode().splitlines()
    assert json.loads(place)["WORLD_SIZE"] == "1"
    assert second == "second line"
    assert done.stderr == b"bytes \xff, no end"


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("sys.exit(3)", 3, "rank 1 ended with status 3"),
        ("os.kill(os.getpid(), 9)", 137, "rank 1 was ended by signal 9"),
    ],
)
def test_the_status_of_the_first_rank_that_fails_is_passed_on(tmp_path: Path, how: str, status: int, said: str) -> None:
    others = "\nelse:\n    import time\n    time.sleep(600)"
    done = launched(tmp_path, "--slots", "2", *script(tmp_path, PLACE.replace("HOW", how + others)))
    assert done.returncode == status
    assert done.stderr.decode(errors="replace").splitlines()[-1] == f"{LAUNCH_LAYER}: {said}; so all are ended."
    assert b"torch/distributed" not in done.stderr


def test_options_of_torchrun_do_what_they_do_there(tmp_path: Path) -> None:
    words = script(tmp_path, PLACE.replace("HOW", "sys.exit(3)"))
    done = launched(tmp_path, "--max-restarts", "1", "--slots", "2", "--", *words)
    assert done.returncode == 0, done.stderr
    counts = [line.rpartition(b'COUNT": ')[2] for line in done.stdout.splitlines() if b"COUNT" in line]
    assert b'"0"}' in counts
    assert counts.count(b'"1"}') == 2


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = launched(tmp_path, "--slots", "1", "pyton3", "train.py")
    assert done.returncode == 127
    assert b"'pyton3 train.py' cannot be run: No such file or directory." in done.stderr


def test_a_signal_is_passed_on_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with launching(tmp_path, "--slots", "2", "sh", "-c", f"{' '.join(script(tmp_path, FAMILY))}; true") as process:
        family = families(tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
        assert not any(map(is_alive, family))


def test_all_ends_with_the_launcher_however_it_ends(tmp_path: Path) -> None:
    with launching(tmp_path, "--slots", "2", "sh", "-c", f"{' '.join(script(tmp_path, FAMILY))}; true") as process:
        family = families(tmp_path)
        process.kill()
        process.wait()
    wait_until(lambda: not any(map(is_alive, family)))


def test_within_an_experiment_it_becomes_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [*LAYER, "--slots", "7", sys.executable, "-c", "import os; print(os.getppid(), 'RANK' in os.environ)"],
        env=environment() | {WORKER_VARIABLE: "{}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stdout == f"{os.getpid()} False\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "names no command after the launch layer"),
        (["--slots", "0", "true"], "`--slots` takes a whole number of at least 1, not '0'."),
        (["--slots", "two", "true"], "`--slots` takes a whole number of at least 1, not 'two'."),
        (["--nnodes", "2", "true"], "torchrun's options end with `--`"),
        (["--slots", "2", "--nproc_per_node=2", "--", "true"], "`--slots 2` and `--nproc_per_node=2` mean the same"),
        (["--slots", "1", "--module", "--", "true"], "torchrun refuses its options: Don't use both the '--no-python'"),
        (["--slots", "1", "--run-path", "--", "true"], "`--run-path` has no place here"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_options_that_torchrun_does_not_have_are_refused_by_its_own_parser(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--nodes", "2", "--", "true"])
    assert caught.value.code == 2
    assert f"python3 -m {LAUNCH_LAYER}: error: unrecognized arguments: --nodes" in capsys.readouterr().err


def test_help_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "[--slots N] [TORCHRUN OPTIONS --] COMMAND" in capsys.readouterr().out
