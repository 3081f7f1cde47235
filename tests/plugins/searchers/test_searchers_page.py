"""What docs/searchers.md shows is what there is."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.config import load
from mnist_trials.experiment.simulation import simulate
from mnist_trials.plugin import Create, Judgement, PluginManager, SearcherContext, Stop, get_plugins

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "third_party_plugin"
PAGE = (ROOT / "docs" / "searchers.md").read_text(encoding="utf-8")
CONTEXT = SearcherContext(experiment_seed=0, sample=lambda index: {})


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_searcher_of_the_page_is_the_example() -> None:
    assert blocks("python")[0] == (EXAMPLE / "median_stop.py").read_text(encoding="utf-8")


def test_the_entry_point_and_the_suite_of_the_page_are_those_of_the_example() -> None:
    (entry_point,) = blocks("toml")
    assert entry_point in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
    suite = blocks("python")[2].split("\n\n\n")[1]
    assert suite in (EXAMPLE / "test_median_stop.py").read_text(encoding="utf-8")


def test_the_searcher_of_the_page_works() -> None:
    module: dict[str, Any] = {}
    exec(blocks("python")[0], module)
    manager = PluginManager()
    hook = staticmethod(module["mnist_trials_searchers"])
    manager.register(type("Plugin", (), {"mnist_trials_searchers": hook})())
    searcher = manager.find("searcher", "median_stop").make({"smaller_is_better": True}, {})
    assert searcher.initial_trials(CONTEXT) == [Create()] * 4


def test_every_searcher_that_comes_along_is_on_the_page() -> None:
    ours = [info for info in get_plugins().plugins() if info.distribution == "mnist-trials" and info.kind == "searcher"]
    assert [info.name for info in ours if f"\n| `{info.name}` |" not in PAGE] == []


@pytest.mark.parametrize("block", blocks("yaml"))
def test_the_configs_of_the_page_run(block: str, tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(f"name: page\nentrypoint: trial:Mine\n{block}")
    assert load(path).warnings == ()
    result = simulate(path, lambda hparams, units: abs(math.log10(hparams["learning_rate"]) + 2) + 1 / units, slots=4)
    assert result.state == "COMPLETED"


def test_the_worked_example_is_what_asha_does() -> None:
    rows = re.findall(
        r"^\| (\d) \| (\d) \| (\S+) \|(?: (\d) of (\d))? \|(?: (\d))? \| (.*) \|$", PAGE, flags=re.MULTILINE
    )
    assert len(rows) == 12
    config = {"max_length": {"epochs": 9}, "divisor": 3, "num_rungs": 3, "max_trials": 6, "max_concurrent_trials": 3}
    searcher = get_plugins().find("searcher", "asha").make(config, {})
    made = len(searcher.initial_trials(CONTEXT))
    assert made == 3
    trained: dict[int, int] = {}
    rungs: dict[str, list[float]] = {"1": [], "3": [], "9": []}
    for trial, units, written, rank, of, kept, what in rows:
        trained[int(trial)] = int(units)
        metric = None if written == "nan" else float(written)
        came = rungs[units]
        came.append(math.inf if metric is None else metric)
        if rank:
            place = sorted(came).index(came[-1]) + 1
            assert (place, len(came), max(len(came) // 3, 1)) == (int(rank), int(of), int(kept))
        actions = searcher.validation_completed(CONTEXT, int(trial), int(units), metric)
        said = "goes on" if rank else "has its full length"
        for action in actions:
            if isinstance(action, Stop):
                said = "ends"
                assert isinstance(action.why, Judgement)
                assert (action.why.rank, action.why.of, action.why.kept) == (int(rank), int(of), int(kept))
            elif isinstance(action, Create):
                made += 1
                said += f"; trial {made} begins"
        assert said == what
    assert f"= {sum(trained.values())} epochs, not {6 * 9}" in " ".join(PAGE.split())
