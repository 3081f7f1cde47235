from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mnist_trials.config import sample
from mnist_trials.errors import ConfigError, PluginError
from mnist_trials.experiment.submission import check
from mnist_trials.plugin import Create, Searcher, SearcherContext, Shutdown, get_plugins
from mnist_trials.testing import SearcherSuite

HYPERPARAMETERS: dict[str, Any] = {
    "lr": {"type": "log", "base": 10.0, "minval": -4.0, "maxval": 0.0, "count": 3},
    "net": {
        "layers": {"type": "int", "minval": 1, "maxval": 4},
        "shape": {"type": "categorical", "vals": [[64, 32], {"wide": True}, None, "deep", [64, 32]]},
    },
    "momentum": {"type": "double", "minval": 0.0, "maxval": 0.9, "count": 2},
    "epochs": 3,
}
SHAPES = [[64, 32], {"wide": True}, None, "deep"]
CONTEXT = SearcherContext(experiment_seed=5, sample=lambda index: sample(HYPERPARAMETERS, 5, index))
SAMPLERS: list[tuple[str, dict[str, Any]]] = [
    ("TPESampler", {"n_startup_trials": 4}),
    ("TPESampler", {"n_startup_trials": 4, "multivariate": True, "group": True}),
    ("CmaEsSampler", {"popsize": 3}),
    ("CmaEsSampler", {"popsize": 3, "with_margin": True}),
    ("NSGAIISampler", {"population_size": 4}),
    ("QMCSampler", {"scramble": True}),
    ("GridSampler", {}),
    ("BruteForceSampler", {}),
    ("RandomSampler", {}),
]
Metric = Callable[[Mapping[str, Any]], float | None]


class SamplerSuite(SearcherSuite):
    plugin = "optuna"
    sampler: ClassVar[str] = "TPESampler"
    options: ClassVar[Mapping[str, Any]] = {}

    def config(self) -> Mapping[str, Any]:
        mine = {"max_trials": 6, "max_concurrent_trials": 3, "sampler": self.sampler, "sampler_options": self.options}
        return {**super().config(), **mine}


class TestTpe(SamplerSuite):
    options: ClassVar[Mapping[str, Any]] = {"n_startup_trials": 2}


class TestCmaEs(SamplerSuite):
    sampler = "CmaEsSampler"
    options: ClassVar[Mapping[str, Any]] = {"popsize": 2}


del SamplerSuite  # has no tests of its own


def optuna_searcher(hyperparameters: Mapping[str, Any] = HYPERPARAMETERS, **config: Any) -> Searcher:
    settings = {"max_trials": 30, "max_concurrent_trials": 3, "max_length": {"batches": 5}, **config}
    searcher: Searcher = get_plugins().find("searcher", "optuna").factory(settings, hyperparameters)
    return searcher


def made_up(hparams: Mapping[str, Any]) -> float | None:
    """Smallest at a learning rate of 0.01; not finite for one of the shapes."""
    if hparams["net"]["shape"] == "deep":
        return None
    return (math.log10(hparams["lr"]) + 2) ** 2 + float(hparams["momentum"]) + int(hparams["net"]["layers"])


def searched(
    make: Callable[[], Searcher],
    metric: Metric = made_up,
    context: SearcherContext = CONTEXT,
    fate: Callable[[int], str | None] = lambda trial_id: None,
    interrupted: bool = False,
) -> list[Mapping[str, Any]]:
    """The hyperparameters of all trials of a search, in which the oldest but one ends first."""
    searcher = make()
    made: list[Mapping[str, Any]] = []
    running: list[int] = []
    actions = searcher.initial_trials(context)
    while True:
        for action in actions:
            if isinstance(action, Shutdown):
                return made
            assert isinstance(action, Create)
            assert action.hparams is not None
            made.append(action.hparams)
            running.append(len(made))
        if interrupted:
            document = json.dumps(searcher.snapshot(), allow_nan=False)
            searcher = make()
            searcher.restore(json.loads(document))
            assert json.dumps(searcher.snapshot()) == document
        trial_id = running.pop(min(1, len(running) - 1))
        if reason := fate(trial_id):
            actions = searcher.trial_failed(context, trial_id, reason)
        else:
            assert searcher.validation_completed(context, trial_id, 5, metric(made[trial_id - 1])) == []
            actions = searcher.trial_exited(context, trial_id)


@pytest.mark.parametrize(("sampler", "options"), SAMPLERS)
def test_a_search_that_is_cut_off_at_every_event_proposes_the_same(sampler: str, options: dict[str, Any]) -> None:
    def make() -> Searcher:
        return optuna_searcher(sampler=sampler, sampler_options=options)

    fates: dict[int, str] = {4: "error", 9: "invalid_hp"}
    whole = searched(make, fate=fates.get)
    assert len(whole) == 31  # one is replaced
    assert searched(make, fate=fates.get, interrupted=True) == whole


@pytest.mark.parametrize(("sampler", "options"), SAMPLERS)
def test_every_proposal_lies_in_the_space(sampler: str, options: dict[str, Any]) -> None:
    for hparams in searched(lambda: optuna_searcher(sampler=sampler, sampler_options=options)):
        assert list(hparams) == list(HYPERPARAMETERS)
        assert 1e-4 <= hparams["lr"] <= 1.0
        assert 0.0 <= hparams["momentum"] <= 0.9
        assert type(hparams["net"]["layers"]) is int
        assert 1 <= hparams["net"]["layers"] <= 4
        assert hparams["net"]["shape"] in SHAPES
        assert hparams["epochs"] == 3


def test_another_seed_is_another_search() -> None:
    other = SearcherContext(experiment_seed=6, sample=CONTEXT.sample)
    assert searched(optuna_searcher)[0] != searched(optuna_searcher, context=other)[0]


def test_trials_that_begin_at_once_differ() -> None:
    for sampler, options in SAMPLERS:
        searcher = optuna_searcher(sampler=sampler, sampler_options=options, max_concurrent_trials=8)
        begun = [json.dumps(action.hparams) for action in searcher.initial_trials(CONTEXT) if type(action) is Create]
        assert len(begun) == len(set(begun)) == 8, sampler


@pytest.mark.parametrize("smaller_is_better", [True, False])
def test_tpe_finds_better_points_than_chance(smaller_is_better: bool) -> None:
    space = {"x": {"type": "double", "minval": 0.0, "maxval": 1.0}, "y": {"type": "log", "minval": -3, "maxval": 0}}
    sign = 1 if smaller_is_better else -1

    def distance(hparams: Mapping[str, Any]) -> float:
        return float((hparams["x"] - 0.3) ** 2 + (math.log10(hparams["y"]) / 3 + 0.6) ** 2)

    def best(sampler: str, seed: int) -> float:
        context = SearcherContext(experiment_seed=seed, sample=CONTEXT.sample)
        make = lambda: optuna_searcher(space, sampler=sampler, smaller_is_better=smaller_is_better)  # noqa: E731
        return min(map(distance, searched(make, lambda hparams: sign * distance(hparams), context)))

    wins = sum(best("TPESampler", seed) < best("RandomSampler", seed) for seed in range(8))
    assert wins >= 6


def test_a_metric_that_is_not_finite_leads_the_sampler_away() -> None:
    space = {"x": {"type": "double", "minval": 0.0, "maxval": 1.0}}
    made = searched(lambda: optuna_searcher(space), lambda hparams: None if hparams["x"] > 0.5 else 1.0)
    assert sum(hparams["x"] > 0.5 for hparams in made[10:]) <= 5  # of 20; half of them by chance


def test_what_the_sampler_hears_is_the_best_validation_and_the_worst_for_a_failure() -> None:
    searcher = optuna_searcher(smaller_is_better=False, max_concurrent_trials=5)
    searcher.initial_trials(CONTEXT)
    for metric in (0.4, None, 0.9, 0.6):
        searcher.validation_completed(CONTEXT, 1, 1, metric)
    searcher.trial_exited(CONTEXT, 1)
    searcher.validation_completed(CONTEXT, 2, 1, 0.7)
    searcher.trial_failed(CONTEXT, 2, "error")
    searcher.validation_completed(CONTEXT, 3, 1, 0.8)
    searcher.trial_failed(CONTEXT, 3, "invalid_hp")
    searcher.validation_completed(CONTEXT, 4, 1, None)
    searcher.trial_exited(CONTEXT, 4)
    heard = [trial[:2] for trial in searcher.snapshot()["study"]["trials"]]
    assert heard[:4] == [["COMPLETE", 0.9], ["COMPLETE", None], ["FAIL", None], ["COMPLETE", None]]
    assert heard[4:] == [["RUNNING", None]] * 5


@pytest.mark.parametrize("sampler", ["GridSampler", "BruteForceSampler"])
@pytest.mark.parametrize("places", [1, 3, 0])
def test_a_finite_space_is_gone_through_once(sampler: str, places: int) -> None:
    make = lambda: optuna_searcher(sampler=sampler, max_trials=1000, max_concurrent_trials=places)  # noqa: E731
    made = {json.dumps(hparams) for hparams in searched(make)}
    assert len(made) == len(searched(make)) == 3 * 4 * 4 * 2
    assert {json.loads(hparams)["momentum"] for hparams in made} == {0.0, 0.9}
    assert {json.loads(hparams)["lr"] for hparams in made} == {1e-4, 1e-2, 1.0}


def test_constants_alone_are_searched_with_other_seeds() -> None:
    assert searched(lambda: optuna_searcher({"lr": 0.1}, max_trials=4), lambda _: 1.0) == [{"lr": 0.1}] * 4


def test_its_plan_is_told_beforehand() -> None:
    (bracket,) = optuna_searcher(max_concurrent_trials=0).brackets() or ()
    assert (bracket.rungs, bracket.trials, bracket.max_concurrent_trials) == ((5,), (30,), 30)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"sampler": "TPSampler"}, r"no sampler 'TPSampler' .* Did you mean 'TPESampler'\? Known: BruteForceSampler, "),
        ({"sampler": "PartialFixedSampler"}, "has no sampler 'PartialFixedSampler' that a config can make"),
        ({"sampler_options": {"n_startup": 3}}, "does not take 'n_startup'. Did you mean 'n_startup_trials'"),
        ({"sampler_options": {"seed": 3}}, "The Optuna sampler 'TPESampler' does not take 'seed'"),
        ({"sampler_options": {"gamma": 3}}, "does not take 'gamma'"),
        ({"sampler_options": {"n_startup_trials": "3"}}, "'n_startup_trials' of .* must be of type int, not '3'"),
        ({"sampler_options": {"n_startup_trials": True}}, "must be of type int, not True"),
        ({"sampler_options": {"multivariate": 1}}, "must be of type bool, not 1"),
        ({"sampler": "QMCSampler", "sampler_options": {"qmc_type": "x"}}, "cannot be made with {'qmc_type': 'x'}: "),
        ({"sampler": "NSGAIISampler", "sampler_options": {"population_size": 1}}, "cannot be made with"),
    ],
)  # fmt: skip
def test_what_no_sampler_takes_is_refused(config: dict[str, Any], text: str) -> None:
    with pytest.raises(PluginError, match=text):
        optuna_searcher(**config)


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        ({"type": "double", "minval": 0.0, "maxval": 1.0}, "'hyperparameters.net.lr' needs 'count' here"),
        ({"type": "log", "base": 10.0, "minval": 0.0, "maxval": 1.0}, "'hyperparameters.net.lr' needs 'count' here"),
        ({"type": "int", "minval": 1, "maxval": 10**9}, "have 2,000,000,000 points, and 1,000,000 are allowed"),
        ({"type": "int", "minval": 1, "maxval": 999_999}, "hyperparameters have 1,999,998 points"),
    ],
)
def test_a_space_without_end_is_not_gone_through(leaf: dict[str, Any], text: str) -> None:
    space = {"net": {"lr": leaf}, "other": {"type": "categorical", "vals": [1, 2]}}
    with pytest.raises(PluginError, match=text):
        optuna_searcher(space, sampler="GridSampler")


def test_optuna_says_nothing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for sampler, options in SAMPLERS:
            searched(lambda s=sampler, o=options: optuna_searcher(sampler=s, sampler_options=o))  # type: ignore[misc]
    assert [str(warning.message) for warning in caught] == []
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_its_verbosity_is_as_before() -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    searched(optuna_searcher)
    assert optuna.logging.get_verbosity() == before


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Hides an installed package from those that ask whether it is there."""
    import importlib.util

    find_spec = importlib.util.find_spec
    return lambda name: monkeypatch.setattr(
        "importlib.util.find_spec", lambda asked, *rest: None if asked == name else find_spec(asked, *rest)
    )


def test_without_optuna_the_command_that_installs_it_is_given(without: Callable[[str], None]) -> None:
    without("optuna")
    with pytest.raises(PluginError, match=r"not available: .*; install it with: pip install 'mnist-trials\[optuna\]'"):
        get_plugins().find("searcher", "optuna")


def test_without_what_a_sampler_needs_the_command_that_installs_it_is_given(without: Callable[[str], None]) -> None:
    without("cmaes")
    with pytest.raises(PluginError, match=r"'CmaEsSampler' needs cmaes, .* pip install 'mnist-trials\[optuna\]'"):
        optuna_searcher(sampler="CmaEsSampler")


def test_optuna_is_imported_only_where_a_search_uses_it() -> None:
    code = (
        "import sys; from mnist_trials.plugin import get_plugins; get_plugins().plugins(); "
        "get_plugins().find('searcher', 'optuna'); print('optuna' in sys.modules)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert outcome.stdout.strip() == "False"


def test_a_config_says_where_the_sampler_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "trial.py").write_text("class Mine: ...")
    (tmp_path / "bad.yaml").write_text(
        "name: x\nentrypoint: trial:Mine\n"
        "searcher:\n  name: optuna\n  metric: loss\n  max_trials: 3\n  max_length: 10\n  sampler: TPE\n"
    )
    with pytest.raises(ConfigError, match=r"bad.yaml:4:9: Optuna .* has no sampler 'TPE'"):
        check(tmp_path / "bad.yaml")
