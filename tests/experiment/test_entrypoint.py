from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mnist_trials.config import Entrypoint
from mnist_trials.experiment.entrypoint import check_entrypoint

MODEL = """
import os
from somewhere import Imported as Renamed
class MyTrial: pass
class OtherTrial: pass
Made = type("Made", (), {})
try:
    class InTry: pass
except ImportError:
    InTry = None
if True:
    Annotated: type = MyTrial
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").write_text("raise RuntimeError('nobody may import this')")
    (tmp_path / "package" / "inner" / "trial.py").write_text("class Deep: pass")
    (tmp_path / "broken.py").write_text("x = 1\nclass Broken(:\n    pass\n")
    (tmp_path / "starred.py").write_text("from model import *")
    (tmp_path / "binary.py").write_bytes(b"\x00\x01")
    (tmp_path / "train.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "trial",
    [
        "model:MyTrial",
        "model:Renamed",
        "model:Made",
        "model:InTry",
        "model:Annotated",
        "package.inner.trial:Deep",
        "starred:Anything",
        "mnist_trials.errors:InvalidHP",
    ],
)
def test_what_is_there_is_found_without_being_imported(context: Path, trial: str) -> None:
    before = set(sys.modules)
    assert check_entrypoint(Entrypoint(trial=trial), context) is None
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("trial", "told"),
    [
        ("modle:MyTrial", r"there is no module 'modle' in .*, and none is installed. Did you mean 'model'\?"),
        ("nothing:MyTrial", r"has: binary, broken, model, starred, train\."),
        (
            "model:MyTrail",
            r"model\.py has no class 'MyTrail'\. Did you mean 'model:MyTrial'\? It has: .*MyTrial, Other",
        ),
        ("model.inner:X", r"no module 'model.inner'"),
        ("package.other:X", r"no module 'package.other'"),
        ("broken:Broken", r"broken\.py:2:14: invalid syntax"),
        ("binary:X", r"binary\.py cannot be read|null bytes"),
        ("mnist_trials.errors:InvalidPH", r"errors\.py has no class 'InvalidPH'\. Did you mean 'mnist_trials\.errors:"),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest(context: Path, trial: str, told: str) -> None:
    import re

    wrong = check_entrypoint(Entrypoint(trial=trial), context)
    assert wrong is not None
    assert re.search(told, wrong), wrong


def test_a_context_without_python_files_is_doubted(tmp_path: Path) -> None:
    wrong = check_entrypoint(Entrypoint(trial="model:X"), tmp_path)
    assert wrong is not None
    assert "has no Python file; is it the CONTEXT?" in wrong


@pytest.mark.parametrize("command", [("python3", "train.py", "--epochs", "1"), ("python3", "-m", "train"), ("sh", "x")])
def test_a_command_is_there_if_its_program_and_script_are(context: Path, command: tuple[str, ...]) -> None:
    assert check_entrypoint(Entrypoint(command=command), context) is None


def test_a_command_in_the_context_is_found(context: Path) -> None:
    (context / "go.sh").write_text("")
    assert check_entrypoint(Entrypoint(command=("./go.sh",)), context) is None


def test_a_script_or_program_that_is_not_there_is_told(context: Path) -> None:
    wrong = check_entrypoint(Entrypoint(command=("python3", "trian.py")), context)
    assert wrong == f"there is no file trian.py in {context}. Did you mean 'train.py'?"
    wrong = check_entrypoint(Entrypoint(command=("no-such-program",)), context)
    assert wrong is not None
    assert "no program 'no-such-program'" in wrong
