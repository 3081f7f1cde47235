import subprocess
import sys

import pytest

from mnist_trials import testing


@pytest.mark.parametrize("name", testing.__all__)
def test_every_suite_can_be_imported(name: str) -> None:
    assert getattr(testing, name).__name__ == name


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'NoSuite'"):
        _ = testing.NoSuite


def test_the_suites_are_imported_only_when_used() -> None:
    program = "import sys, mnist_trials.testing; assert not {'pytest', 'torch', 'pluggy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
