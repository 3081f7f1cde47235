"""`import`: what is written, and what a person is told."""

from __future__ import annotations

from pathlib import Path

from mnist_trials.config import load

PARAMS = Path(__file__).parents[1] / "mnist" / "params" / "fc_mnist.yaml"


def test_it_writes_a_config_that_loads_and_says_what_to_type_next(cli, tmp_path: Path) -> None:
    target = tmp_path / "made.yaml"
    outcome = cli("import", PARAMS, "--to", target)
    assert outcome.status == 0
    assert f"create {target}" in outcome.out
    assert f"warning: {PARAMS}:14:5: 'model.mixed_precision' is not taken over" in outcome.err
    assert target.read_text().startswith("# Made of fc_mnist.yaml, the parameters of FC-MNIST.\n")
    assert load(target).config.name == "made"


def test_as_json_the_config_is_in_the_document(cli, tmp_path: Path) -> None:
    document = cli("import", PARAMS, "--to", tmp_path / "made.yaml", "--json").document
    assert document["reference"] == "FC-MNIST"
    assert document["config"]["hyperparameters"]["depth"] == 10
    assert len(document["warnings"]) == 3


def test_a_file_that_is_there_is_left_alone(cli, tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    target.write_text("mine")
    outcome = cli("import", PARAMS, "--to", target)
    assert outcome.status == 2
    assert f"{target} is there already; nothing was written." in outcome.err
    assert target.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(cli, tmp_path: Path) -> None:
    outcome = cli("import", PARAMS, "--to", tmp_path / "absent" / "made.yaml")
    assert (outcome.status, outcome.out) == (2, "")
    assert "No such file or directory" in outcome.err


def test_a_mistake_is_told_and_nothing_written(cli, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("model: {hiden_size: 1}\n")
    outcome = cli("import", tmp_path / "params.yaml", "--to", tmp_path / "made.yaml")
    assert outcome.status == 2
    assert "params.yaml:1:9: FC-MNIST has no parameter 'model.hiden_size'. Did you mean 'hidden_size'?" in outcome.err
    assert not (tmp_path / "made.yaml").exists()
