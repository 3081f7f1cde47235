"""The plugin of somebody else: built, installed beside this package, listed, tested, and searched with by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.integration.support import DEADLINE, ROOT, Command

EXAMPLE = ROOT / "examples" / "third_party_plugin"
MISSING = [name for name in ("uv", "hatchling") if find_spec(name) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}: pip install {' '.join(MISSING)}")


def run(*arguments: object, cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    outcome = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(
        EXAMPLE, tmp_path_factory.mktemp("source") / "plugin", ignore=shutil.ignore_patterns("__pycache__")
    )


@pytest.fixture(scope="module")
def site(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the plugin is installed, and nothing else."""
    site = tmp_path_factory.mktemp("site")
    run("-m", "uv", "pip", "install", "--no-deps", "--no-build-isolation", "--target", site, ".", cwd=source)
    return site


@pytest.fixture
def beside(command: Command, site: Path, source: Path) -> Command:
    """The command where the plugin is installed, in the plugin's folder."""
    command.environment["PYTHONPATH"] = str(site)
    command.cwd = source
    return command


def broken_plugin(site: Path, code: str) -> None:
    """A distribution as an installer leaves one, with one module and one entry point."""
    (site / "unfit.py").write_text(code)
    about = site / "unfit-9.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: unfit\nVersion: 9.9\n")
    (about / "entry_points.txt").write_text("[mnist_trials]\nsearcher-unfit = unfit\n")


def test_it_is_listed_with_its_distribution_and_version(beside: Command) -> None:
    (mine,) = [plugin for plugin in beside.json("plugins") if plugin["name"] == "median_stop"]
    assert (mine["kind"], mine["distribution"], mine["version"]) == ("searcher", "mnist-trials-median-stop", "0.1.0")
    assert (mine["entry_point"], mine["available"]) == ("searcher-median-stop", True)


def test_only_the_module_is_installed(site: Path) -> None:
    assert sorted(path.name for path in site.glob("*.py")) == ["median_stop.py"]


def test_its_own_tests_and_the_suite_pass(source: Path, site: Path) -> None:
    output = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=source, variables={"PYTHONPATH": str(site)})
    assert " passed" in output
    assert "skipped" not in output


def test_its_config_is_checked_and_previewed(beside: Command) -> None:
    beside("validate", "search.yaml")
    document = beside.json("preview-search", "search.yaml")
    assert (document["searcher"], document["unit"]) == ("median_stop", "epochs")
    unknown = beside("preview-search", "search.yaml", "--config", "searcher.name=median_stopp", status=2)
    assert "Did you mean 'median_stop'?" in unknown.stderr


@pytest.mark.slow
def test_a_whole_search_with_it(beside: Command) -> None:
    """On one slot, so one trial after another; with this seed the third has by far the lowest learning rate."""
    changes = ("--config", "searcher.max_trials=3", "--config", "reproducibility.experiment_seed=2")
    document = beside.json("create", "search.yaml", *changes, "--slots", 1)
    assert document["state"] == "COMPLETED"
    assert [trial["state"] for trial in document["trials"]] == ["COMPLETED"] * 3
    assert [trial["stopped_early"] for trial in document["trials"]] == [False, False, True]
    assert [trial["epochs"] < 3 for trial in document["trials"]] == [False, False, True]
    decisions = beside.json("decisions", document["experiment_id"])["decisions"]
    stops = [action for decision in decisions for action in decision["actions"] if action["action"] == "Stop"]
    assert [(stop["trial_id"], stop["why"]) for stop in stops] == [(3, "worse than the middle one of 3 trials after 1")]


def test_a_plugin_for_another_version_is_reported_and_takes_nothing_with_it(beside: Command, tmp_path: Path) -> None:
    broken_plugin(tmp_path, "from mnist_trials.plugin import SearcherOfTheFuture")
    beside.environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    (unfit,) = [plugin for plugin in beside.json("plugins") if plugin["distribution"] == "unfit"]
    assert (unfit["available"], unfit["version"]) == (False, "9.9")
    assert unfit["reason"].startswith("failed to load: ImportError: cannot import name 'SearcherOfTheFuture'")
    beside("preview-search", "search.yaml")
    asked = beside("preview-search", "search.yaml", "--config", "searcher.name=unfit", status=2)
    assert "No searcher is named 'unfit'" in asked.stderr
    assert "The plugin 'searcher-unfit' failed to load: ImportError" in asked.stderr


def test_a_plugin_that_fails_when_it_is_made_is_a_mistake_in_the_config(beside: Command, tmp_path: Path) -> None:
    broken_plugin(
        tmp_path,
        "from mnist_trials.plugin import PluginRecord, hookimpl\n"
        "@hookimpl\n"
        "def mnist_trials_searchers():\n"
        "    return [PluginRecord('unfit', '', lambda config, hyperparameters: config['not_there'])]\n",
    )
    beside.environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    outcome = beside("preview-search", "search.yaml", "--config", "searcher.name=unfit", status=2)
    assert "The plugin 'unfit' failed: KeyError: 'not_there'" in outcome.stderr
    assert "Traceback" not in outcome.stderr
