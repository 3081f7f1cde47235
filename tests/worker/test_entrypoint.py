from __future__ import annotations

import re
from pathlib import Path

import pytest

from mnist_trials.errors import TrialError
from mnist_trials.training.trial import Trial
from mnist_trials.worker.entrypoint import load_trial_class
from mnist_trials.worker.failure import format_traceback

pytestmark = pytest.mark.usefixtures("own_modules")


def test_a_trial_class_is_found(project: Path) -> None:
    found = load_trial_class("model:Tiny", project)
    assert issubclass(found, Trial)
    assert found.__name__ == "Tiny"


def test_a_class_within_a_class_and_a_module_within_a_package_are_found(project: Path) -> None:
    (project / "package").mkdir()
    (project / "package" / "inner.py").write_text("import model\nclass Outer:\n    class Inner(model.Tiny): pass\n")
    assert load_trial_class("package.inner:Outer.Inner", project).__qualname__ == "Outer.Inner"


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        (
            "modle:Tiny",
            r"The entrypoint 'modle:Tiny' names the module 'modle', which is not in .*/project\. "
            r"Did you mean 'model'\? Modules there: model\.",
        ),
        ("model.part:Tiny", r"names the module 'model\.part', which is not in"),
        (
            "model:Tinny",
            r"The entrypoint 'model:Tinny' names the class 'Tinny', which is not in .*/project/model\.py\. "
            r"Did you mean 'Tiny'\? Trials there: Tiny\.",
        ),
        ("model:Tiny.Inner", r"names the class 'Tiny\.Inner', which is not in .*/model\.py"),
        ("model:NoTrial", r"'model:NoTrial' is a class, but not a Trial: write `class NoTrial\(mnist_trials\.Trial\)`"),
        ("model:function", r"'model:function' is a function, but not a Trial"),
        ("model:mt.Trial", r"'model:mt\.Trial' is Trial itself: name the class that you derive from it"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_near(project: Path, entrypoint: str, message: str) -> None:
    with pytest.raises(TrialError) as caught:
        load_trial_class(entrypoint, project)
    assert re.search(message, str(caught.value)), caught.value


def test_a_trial_without_all_its_methods_is_told_which_it_lacks(project: Path) -> None:
    (project / "half.py").write_text(
        "import model, mnist_trials\nclass Half(mnist_trials.Trial):\n    build_data = None\n"
    )
    with pytest.raises(
        TrialError, match=r"The Trial 'half:Half' lacks build_model\(\), evaluate_batch\(\), train_batch"
    ):
        load_trial_class("half:Half", project)


def test_a_module_that_raises_shows_its_own_traceback_and_why_it_was_imported(project: Path) -> None:
    (project / "broken.py").write_text("def f():\n    return 1 / 0\nf()\n")
    with pytest.raises(ZeroDivisionError) as caught:
        load_trial_class("broken:Tiny", project)
    assert caught.tb is not None
    lines = format_traceback(caught.value.with_traceback(caught.tb.tb_next)).splitlines()
    assert [line.split('"')[1] for line in lines if line.startswith("  File")] == [str(project / "broken.py")] * 2
    assert lines[-2:] == [
        "ZeroDivisionError: division by zero",
        "Raised while importing the entrypoint 'broken:Tiny'.",
    ]


def test_a_module_with_a_mistake_in_its_syntax_shows_where(project: Path) -> None:
    (project / "broken.py").write_text("x = (1\n")
    with pytest.raises(SyntaxError) as caught:
        load_trial_class("broken:Tiny", project)
    assert 'broken.py", line 1' in format_traceback(caught.value)


def test_a_module_that_lacks_a_library_is_not_said_to_be_missing_itself(project: Path) -> None:
    (project / "needy.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="No module named 'not_installed_anywhere'"):
        load_trial_class("needy:Tiny", project)
