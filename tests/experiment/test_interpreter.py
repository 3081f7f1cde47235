"""The interpreter that a backend's config names: looked at when an experiment is submitted, and what workers run in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mnist_trials
from mnist_trials.config import PluginChoice
from mnist_trials.errors import ConfigError, PluginError
from mnist_trials.experiment import api
from mnist_trials.experiment.interpreter import check
from mnist_trials.plugin import get_plugins, own_options, python_of

LOCAL = get_plugins().find("launcher", "local").factory({})
INLINE = get_plugins().find("launcher", "inline").factory({})
VERSION = mnist_trials.__version__


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def refused(python: object, launcher: Any = LOCAL) -> str:
    with pytest.raises(PluginError) as told:
        check(PluginChoice("xla", {"python": python}), launcher)
    return str(told.value)


def test_the_option_is_no_business_of_the_backend() -> None:
    assert own_options({"python": "/opt/python", "device": "TT"}) == {"device": "TT"}
    assert python_of("xla", {"python": "/opt/python"}) == "/opt/python"
    assert python_of("xla", {"python": "~/venv/bin/python"}) == str(Path.home() / "venv/bin/python")
    assert python_of("xla", {}) is None


@pytest.mark.parametrize(("given", "said"), [("python3", "begins with / or ~"), (3, "must be text"), ("", "empty")])
def test_it_is_an_absolute_path(given: object, said: str) -> None:
    assert said in refused(given)


def test_it_must_be_there_and_be_a_program(tmp_path: Path) -> None:
    assert "does not exist" in refused(str(tmp_path / "python"))
    assert "is not a file" in refused(str(tmp_path))
    (tmp_path / "text").write_text("")
    assert "is not executable" in refused(str(tmp_path / "text"))
    (tmp_path / "odd").write_text("#!/no/such/shell\n")
    (tmp_path / "odd").chmod(0o755)
    assert "cannot be run" in refused(str(tmp_path / "odd"))


def test_what_is_no_python_that_works_is_told_by_what_it_says(tmp_path: Path) -> None:
    assert "that works: syntax" in refused(script(tmp_path, "echo 'a trace' >&2; echo syntax >&2; exit 1"))
    assert "it ended with status 3 and said nothing" in refused(script(tmp_path, "exit 3"))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"version": None, "missing": "No module named 'mnist_trials'"},
            f"-m pip install 'mnist-trials[xla]=={VERSION}'",
        ),
        ({"version": "0.0.1"}, f"has mnist-trials 0.0.1, and this is {VERSION}; workers must have the same"),
        ({"version": VERSION, "known": False}, "has no backend 'xla'; install the plugin there"),
        ({"version": VERSION, "known": True, "reason": "torch_xla is not installed: pip ..."}, "torch_xla is not inst"),
    ],
)
def test_it_must_have_the_same_version_and_the_backend_with_its_library(
    tmp_path: Path, found: dict[str, Any], said: str
) -> None:
    answer = json.dumps({"version": None, "known": False, "reason": None, **found})
    assert said in refused(script(tmp_path, f"echo noise\ncat <<'END'\n{answer}\nEND"))


def test_one_that_has_all_of_it_is_taken() -> None:
    check(PluginChoice("cpu", {"python": sys.executable}), LOCAL)


def test_a_launcher_that_starts_no_process_refuses_it() -> None:
    assert "use `launcher: local`" in refused(sys.executable, INLINE)


def test_a_config_that_names_a_wrong_one_is_refused_where_it_stands(lab: Any, tmp_path: Path) -> None:
    file = lab.context / "const.yaml"
    file.write_text(
        "name: there\nentrypoint: fake_trial:Fake\nhyperparameters: {lr: 0.1}\n"
        "searcher: {name: single, metric: loss, max_length: {batches: 4}}\n"
        f"backend: {{name: cpu, python: {tmp_path}/nothing}}\n"
    )
    with pytest.raises(ConfigError) as told:
        api.submit(file, home=lab.home)
    assert "const.yaml:5:" in str(told.value)
    assert f"interpreter {tmp_path}/nothing does not exist" in str(told.value)


@pytest.mark.slow
def test_a_trial_runs_in_the_interpreter_that_the_config_names(tmp_path: Path) -> None:
    """A venv of its own that sees this one's libraries."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=120)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    folders = [path for path in sys.path if path.endswith("site-packages")]
    (site / "there.pth").write_text("".join(f"import site; site.addsitedir({folder!r})\n" for folder in folders))
    python = tmp_path / "venv" / "bin" / "python"
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").write_text(
        "import sys, mnist_trials as mt\nwith mt.init() as context:\n    context.notice('runs in ' + sys.prefix)\n"
    )
    config = {
        "name": "there",
        "entrypoint": ["python3", "train.py"],
        "searcher": {"name": "single", "metric": "loss"},
        "backend": {"name": "cpu", "python": str(python)},
    }
    (tmp_path / "project" / "there.yaml").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "mnist_trials", "--home", tmp_path / "home", "create", tmp_path / "project/there.yaml"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert f"runs in {tmp_path / 'venv'}" in done.stdout, done.stdout + done.stderr
