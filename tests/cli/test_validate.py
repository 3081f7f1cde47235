"""`validate`: the config, then the trial on one batch, and nothing kept."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_trials.cli.failures import tell_trial
from mnist_trials.cli.screen import Screen
from mnist_trials.config import load, sample
from mnist_trials.records import ErrorInfo


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
    require_what_its_steps_consist_of(document["trial"])
    assert not home.exists()
    assert sorted(project.parent.iterdir()) == before


def require_what_its_steps_consist_of(document: Any) -> None:
    inspection = document["inspection"]
    (layer,) = inspection["layers"]
    assert (layer["kind"], layer["inputs"], layer["outputs"]) == ("Linear", [[16, 4]], [[16, 2]])
    assert (inspection["parameters"], inspection["trainable"], layer["parameters"]) == (10, 10, 10)
    assert (inspection["training"]["flops"], inspection["evaluation"]["flops"]) == (512, 256)
    assert inspection["training"]["operations"]["aten::addmm"] == 1
    assert inspection["training"]["operations"]["aten::nll_loss_backward"] == 1
    assert inspection["training"]["bytes"] > inspection["evaluation"]["bytes"] > 0
    assert document["operations_missing"] == {"backend": "cpu", "operations": [], "unknown_because": None}


@pytest.mark.slow
def test_the_project_of_init_is_valid_without_any_data(program, tmp_path: Path, home: Path) -> None:
    assert program("init", tmp_path / "p").status == 0
    outcome = program("validate", tmp_path / "p" / "const.yaml")
    assert outcome.status == 0, outcome.err
    assert "  data        fake\n" in outcome.out
    assert "  model       1,199,882 values in 8 tensors\n" in outcome.out
    assert "Its layers, with 1,199,882 parameters, all trainable:\n" in outcome.out
    assert re.search(r"^  \S+ +Conv2d +64x1x28x28 +64x32x26x26 +320$", outcome.out, re.MULTILINE)
    assert "A train step of 64 samples: " in outcome.out
    assert "An evaluation step of 64 samples: " in outcome.out
    assert "The backend 'cpu' has all of these operations.\n" in outcome.out


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "shape",
            ["mat1 and mat2 shapes cannot be multiplied", "in the model itself (Linear), which was given 16 x 3"],
        ),
        ("hparam", ["'widht'"]),
    ],
)
def test_a_trial_that_fails_is_shown_with_its_own_traceback(
    program, project: Path, home: Path, fault: str, said: list[str]
) -> None:
    outcome = program("validate", project, "--config", f"hyperparameters.fault={fault}")
    assert outcome.status == 2
    assert "the config is valid, but its trial fails: " in outcome.err
    assert all(part in outcome.err for part in said), outcome.err
    assert 'tiny.py", line ' in outcome.err
    assert "Traceback" not in outcome.err.splitlines()[-1]
    assert not home.exists()


OPERATION = """
@torch.library.custom_op("tiny::own", mutates_args=(), device_types="cpu")
def own(images: torch.Tensor) -> torch.Tensor:
    return images * 2


class Tiny"""


@pytest.mark.slow
def test_a_trial_for_a_device_that_is_not_here_is_tried_on_the_cpu(program, project: Path, home: Path) -> None:
    trial = project.parent / "tiny.py"
    trial.write_text(
        trial.read_text().replace("\nclass Tiny", OPERATION, 1).replace("self.model(images)", "self.model(own(images))")
    )
    outcome = program("validate", project, "--config", "backend=cuda", CUDA_VISIBLE_DEVICES="")
    assert outcome.status == 0, outcome.err
    assert "warning: the backend 'cuda' cannot run on this machine (" in outcome.err
    assert ", in place of cuda\n" in outcome.out
    if torch.version.cuda is None:
        assert "Whether 'cuda' has all of these operations is not known here: " in outcome.out
    else:
        assert "The backend 'cuda' lacks tiny::own: there the trial fails, or the host does it instead." in outcome.out
    refused = program("create", project, "--config", "backend=cuda", CUDA_VISIBLE_DEVICES="")
    assert refused.status == 2
    assert "backend" in refused.err
    assert not home.exists()


def test_a_backend_that_nobody_knows_or_a_wrong_option_of_it_is_still_a_mistake(cli, project: Path) -> None:
    assert "Did you mean 'cuda'?" in cli("validate", project, "--config", "backend=cuuda").err
    outcome = cli("validate", project, "--config", "backend={name: xla, devise: TT}")
    assert outcome.status == 2
    assert "Did you mean 'device'?" in outcome.err


@pytest.mark.slow
def test_a_search_by_a_metric_that_its_trial_does_not_report(program, project: Path) -> None:
    search = "searcher={name: random, max_trials: 2, metric: acuracy, max_length: 8}"
    outcome = program("validate", project, "--config", search)
    assert outcome.status == 2
    said = "searcher.metric 'acuracy'. Did you mean 'accuracy'? Reported: accuracy, validation_loss."
    assert outcome.err.endswith(f"{said}\n")


@pytest.mark.slow
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


@pytest.mark.slow
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


REFUSING = """
    def build_model(self):
        if self.context.hparams["width"] < self.context.hparams["least"]:
            raise mt.InvalidHP(f"{self.context.hparams['width']} is too narrow")
"""


@pytest.fixture
def searched(project: Path) -> Path:
    """A search whose trials with a `width` below `least` make no sense; the first has 3, the second 7."""
    trial = project.parent / "tiny.py"
    trial.write_text(trial.read_text().replace("\n    def build_model(self):\n", REFUSING, 1))
    config = project.read_text().replace("width: 2", "width: {type: int, minval: 2, maxval: 9}, least: 0")
    project.write_text(
        config.replace("name: single", "name: random, max_trials: 4") + "reproducibility: {experiment_seed: 5}\n"
    )
    return project


def test_hyperparameters_that_the_trial_refuses_are_replaced_as_a_search_does_it(
    program, searched: Path, home: Path
) -> None:
    widths = [sample(load(searched).config.hyperparameters, 5, number)["width"] for number in (1, 2)]
    assert widths[0] < widths[1]
    outcome = program("validate", searched, "--json", "--config", f"hyperparameters.least={widths[0] + 1}")
    assert outcome.status == 0, outcome.err
    (warning,) = outcome.document["warnings"]
    assert f"trial 1 would have (InvalidHP: {widths[0]} is too narrow)" in warning
    assert f"warning: {warning}" in outcome.err
    assert outcome.document["trial"]["values"] == 5 * widths[1]


@pytest.mark.slow
def test_hyperparameters_that_are_all_refused_are_an_error_that_says_so(program, searched: Path, home: Path) -> None:
    outcome = program("validate", searched, "--config", "hyperparameters.least=99")
    assert outcome.status == 2
    assert "refuses the hyperparameters of all 4 trials of the search that were tried" in outcome.err
    outcome = program(
        "validate", searched, "--config", "hyperparameters.least=99", "--config", "hyperparameters.width=1"
    )
    assert outcome.status == 2
    assert "its trial refuses its hyperparameters: InvalidHP: 1 is too narrow" in outcome.err
    assert "a search replaces them" not in outcome.err


@pytest.mark.parametrize(
    ("traceback", "told"),
    [
        ("mnist_trials.errors.TrialError: it returned: nothing\n", 1),
        ('Traceback (most recent call last):\n  File "a.py", line 1\nTrialError: it returned: nothing\n', 2),
        ("", 1),
    ],
)
def test_a_sentence_that_a_traceback_says_again_is_told_once(
    traceback: str, told: int, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ErrorInfo(type="TrialError", message="it returned: nothing", traceback=traceback, batches=0)
    assert tell_trial(error, "it fails", Screen(), 2) == 2
    err = capsys.readouterr().err
    assert err.count("it returned: nothing") == told
    assert "\n\n" not in err
