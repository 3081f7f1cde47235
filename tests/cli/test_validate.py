"""`validate`: the config, then the trial on one batch, and nothing kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def test_a_config_and_a_trial_that_work(program, project: Path, home: Path) -> None:
    before = sorted(project.parent.iterdir())
    outcome = program("validate", project, "--json")
    assert outcome.status == 0, outcome.err
    document = outcome.document
    assert document["valid"] is True
    assert document["config"]["name"] == "tiny"
    assert (document["trial"]["tensors"], document["trial"]["values"]) == (2, 10)
    assert set(document["trial"]["validation"]) == {"validation_loss", "accuracy"}
    assert "loss" in document["trial"]["training"]
    assert document["trial"]["checkpoint_bytes"] > 0
    assert not home.exists()
    assert sorted(project.parent.iterdir()) == before


def test_the_project_of_init_is_valid_without_any_data(program, tmp_path: Path, home: Path) -> None:
    assert program("init", tmp_path / "p").status == 0
    outcome = program("validate", tmp_path / "p" / "const.yaml")
    assert outcome.status == 0, outcome.err
    assert "  data        fake\n" in outcome.out
    assert "  model       1,199,882 values in 8 tensors\n" in outcome.out


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("shape", "mat1 and mat2 shapes cannot be multiplied"),
        ("hparam", "'widht'"),
    ],
)
def test_a_trial_that_fails_is_shown_with_its_own_traceback(
    program, project: Path, home: Path, fault: str, said: str
) -> None:
    outcome = program("validate", project, "--config", f"hyperparameters.fault={fault}")
    assert outcome.status == 2
    assert "the config is valid, but its trial fails: " in outcome.err
    assert said in outcome.err
    assert 'tiny.py", line ' in outcome.err
    assert "Traceback" not in outcome.err.splitlines()[-1]
    assert not home.exists()


def test_a_search_by_a_metric_that_its_trial_does_not_report(program, project: Path) -> None:
    search = "searcher={name: random, max_trials: 2, metric: acuracy, max_length: 8}"
    outcome = program("validate", project, "--config", search)
    assert outcome.status == 2
    said = "searcher.metric 'acuracy'. Did you mean 'accuracy'? Reported: accuracy, validation_loss."
    assert outcome.err.endswith(f"{said}\n")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a mesh of two slots takes two cores")
def test_what_does_not_fit_several_slots_is_told_by_a_single_process(program, project: Path) -> None:
    trial = project.parent / "tiny.py"
    rules = "    def sharding_rules(self):\n        return {'wieght': ('tensor', None)}\n\n    def build_data("
    trial.write_text(trial.read_text().replace("    def build_data(", rules))
    outcome = program("validate", project, "--config", "mesh=[1, 2]", "--config", "resources.slots_per_trial=2")
    assert outcome.status == 2
    assert "mesh.tensor is 2, and the sharding rules do not fit: 'wieght' matches no parameter" in outcome.err
    uneven = ("--config", "hyperparameters.global_batch_size=5", "--config", "resources.slots_per_trial=2")
    outcome = program("validate", project, *uneven)
    assert "TrialError: A global batch of 5 samples cannot be split evenly over 2 slots. Use 4 or 6." in outcome.err
    outcome = program("validate", project, *uneven[2:], "--config", "mesh=[2, 1]")
    assert outcome.status == 0, outcome.err


def test_an_entrypoint_that_raises_when_it_is_imported(program, project: Path) -> None:
    trial = project.parent / "tiny.py"
    trial.write_text("import no_such_library\n" + trial.read_text())
    outcome = program("validate", project, "--json")
    assert outcome.status == 2
    assert outcome.document["type"] == "ModuleNotFoundError"
    assert "No module named 'no_such_library'" in outcome.err


def test_a_trial_that_takes_its_process_with_it(program, project: Path) -> None:
    trial = project.parent / "tiny.py"
    trial.write_text("import os\nprint('so long', flush=True)\nos._exit(7)\nclass Tiny: pass\n")
    outcome = program("validate", project)
    assert outcome.status == 2
    assert "its process ended with status 7" in outcome.err
    assert outcome.err.endswith("so long\n")


def test_a_command_is_not_run(program, project: Path, home: Path) -> None:
    (project.parent / "train.py").write_text("open('ran', 'w')")
    project.write_text(project.read_text().replace("entrypoint: tiny:Tiny", "entrypoint: python3 train.py"))
    outcome = program("validate", project)
    assert outcome.status == 0, outcome.err
    assert "was not run: python3 train.py" in outcome.out
    assert f"create {project} --test" in outcome.out
    assert program("validate", project, "--json").document["trial"] is None
    assert not (project.parent / "ran").exists()
