from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.plugin import PluginError, PluginManager, PluginRecord, Searcher, get_plugins, hookimpl


class TwoSearchers:
    @hookimpl
    def mnist_trials_searchers(self) -> Iterable[PluginRecord[Searcher]]:
        yield PluginRecord("random", "draws", _unused, aliases=("dice",))
        yield PluginRecord("absent", "cannot be had", _unused, available=lambda: "it needs salt; pip install salt")


def _unused(config: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Searcher:
    raise NotImplementedError


@pytest.fixture
def manager() -> PluginManager:
    manager = PluginManager()
    manager.register(TwoSearchers(), "two")
    return manager


def test_a_plugin_is_found_by_its_name_and_by_its_alias(manager: PluginManager) -> None:
    assert manager.find("searcher", "random") == manager.find("searcher", "dice")


def test_an_unknown_name_brings_the_nearest_and_all_known_names(manager: PluginManager) -> None:
    with pytest.raises(PluginError) as error:
        manager.find("searcher", "randon")
    assert str(error.value) == "No searcher is named 'randon'. Did you mean 'random'? Known: absent, random."


def test_a_plugin_that_is_not_available_says_why(manager: PluginManager) -> None:
    with pytest.raises(PluginError, match="'absent' is not available: it needs salt; pip install salt"):
        manager.find("searcher", "absent")


def test_two_plugins_of_one_name_are_an_error(manager: PluginManager) -> None:
    manager.register(TwoSearchers(), "again")
    with pytest.raises(PluginError, match="Two plugins are named 'random'"):
        manager.searchers()
    clash = "Two plugins are named 'dice': 'two' of .* and 'again' of .*name those to load in MNIST_TRIALS_PLUGINS"
    with pytest.raises(PluginError, match=clash):
        manager.find("searcher", "dice")


class OneMore:
    @hookimpl
    def mnist_trials_searchers(self) -> Iterable[PluginRecord[Searcher]]:
        yield PluginRecord("random", "draws too", _unused)
        yield PluginRecord("third", "has a name of its own", _unused)


def test_two_plugins_of_one_name_take_no_other_with_them(manager: PluginManager) -> None:
    manager.register(OneMore())
    assert manager.find("searcher", "third").summary == "has a name of its own"
    assert manager.names("searcher") == ["absent", "random", "third"]


def test_a_factory_that_fails_is_the_plugins_fault() -> None:
    def factory(config: Mapping[str, Any]) -> Searcher:
        raise KeyError("max_trials")

    def refusing(config: Mapping[str, Any]) -> Searcher:
        raise PluginError("not this")

    with pytest.raises(PluginError, match="The plugin 'mine' failed: KeyError: 'max_trials'"):
        PluginRecord("mine", "", factory).make({})
    with pytest.raises(PluginError, match=r"^not this$"):
        PluginRecord("mine", "", refusing).make({})


def test_a_misspelt_hook_is_an_error() -> None:
    class Misspelt:
        @hookimpl
        def mnist_trials_serchers(self) -> list[object]:
            return []

    with pytest.raises(PluginError, match="mnist_trials_serchers"):
        PluginManager().register(Misspelt())


def test_every_plugin_of_this_distribution_loads() -> None:
    plugins = get_plugins().plugins()
    assert [info for info in plugins if info.kind == "?"] == []
    assert {(info.kind, info.name) for info in plugins if info.distribution == "mnist-trials"} >= {
        ("backend", "cpu"),
        ("backend", "cuda"),
        ("checkpoint_storage", "directory"),
        ("checkpoint_storage", "shared_fs"),
        ("launcher", "inline"),
        ("launcher", "local"),
        ("searcher", "single"),
    }


def installed(site: Path, name: str, source: str) -> None:
    """A distribution as pip leaves one, with one entry point."""
    (site / f"{name}.py").write_text(source)
    info = site / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[mnist_trials]\n{name} = {name}\n")


def listed(site: Path, **variables: str) -> str:
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from mnist_trials.plugin import get_plugins, PluginError\n"
        "try:\n    for p in get_plugins().plugins(): print(p.kind, p.name, p.distribution, p.version, p.unavailable)\n"
        "except PluginError as error: print('error', error)"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60, check=True
    )
    return outcome.stdout


GOOD = """
from mnist_trials.plugin import PluginRecord, hookimpl
@hookimpl
def mnist_trials_searchers():
    yield PluginRecord("mine", "my own", None)
"""


HOOK = "@hookimpl\ndef mnist_trials_searchers():\n"


def test_somebody_elses_plugin_is_one_file_and_one_entry_point(tmp_path: Path) -> None:
    installed(tmp_path, "third_party", GOOD)
    assert "searcher mine third_party 1.2 None" in listed(tmp_path)


def test_a_broken_plugin_is_listed_with_the_reason_and_takes_nothing_with_it(tmp_path: Path) -> None:
    installed(tmp_path, "broken", "import no_such_library")
    output = listed(tmp_path)
    assert "? broken broken 1.2 failed to load: ModuleNotFoundError: No module named 'no_such_library'" in output
    assert "launcher local" in output


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise OSError('no licence')", "failed to load: OSError: no licence"),
        ("yield 'mine'", "failed to load: TypeError: mnist_trials_searchers gave 'mine', which is no PluginRecord"),
        ("return None", "failed to load: TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_a_hook_that_fails_is_a_broken_plugin(tmp_path: Path, body: str, reason: str) -> None:
    installed(tmp_path, "broken", GOOD.splitlines(keepends=True)[1] + HOOK + f"    {body}\n")
    output = listed(tmp_path)
    assert f"? broken broken 1.2 {reason}" in output
    assert "searcher single mnist-trials" in output


def test_a_plugin_that_cannot_say_whether_it_is_available_is_not(tmp_path: Path) -> None:
    installed(tmp_path, "broken", GOOD.replace("None)", "None, available=lambda: 1 / 0)"))
    output = listed(tmp_path)
    assert "searcher mine broken 1.2 it failed to say whether it is available: ZeroDivisionError" in output
    assert "searcher single mnist-trials" in output


def test_a_variable_loads_only_the_named_plugins(tmp_path: Path) -> None:
    installed(tmp_path, "third_party", GOOD)
    output = listed(tmp_path, MNIST_TRIALS_PLUGINS="third_party, backend-cpu")
    assert [line.split()[1] for line in output.splitlines()] == ["cpu", "mine"]


def test_a_variable_that_names_an_absent_plugin_is_an_error(tmp_path: Path) -> None:
    assert "error MNIST_TRIALS_PLUGINS names nothing_here, which no installed" in listed(
        tmp_path, MNIST_TRIALS_PLUGINS="nothing_here"
    )
