"""What is refused before anything is stored, and what is stored when nothing is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import ConfigError, StoreError, UsageError
from mnist_trials.experiment import api
from mnist_trials.experiment.staging import staging
from mnist_trials.store import open_store

YAML = """\
name: from-a-file
entrypoint: fake_trial:Fake
hyperparameters:
  lr: 0.1
searcher:
  name: single
  metric: loss
  max_length: {batches: 4}
launcher: inline
backend: cpu
"""


@pytest.fixture
def file(lab: Any) -> Path:
    path = lab.context / "const.yaml"
    path.write_text(YAML)
    return path


def refused(lab: Any, config: Any, **options: Any) -> str:
    """What is said; and nothing is stored."""
    with pytest.raises(UsageError) as told:
        api.submit(config, home=lab.home, **options)
    assert told.value.exit_status == 2
    assert not lab.home.exists()
    return str(told.value)


def test_the_config_the_options_and_the_code_are_stored(lab: Any, file: Path, tmp_path: Path) -> None:
    experiment_id = api.submit(
        file, home=lab.home, slots=1, data_root=tmp_path, name="012", test=True, overrides=["hyperparameters.lr=0.5"]
    )
    assert experiment_id == 1
    with lab.reader() as reader:
        row = reader.experiment(1)
    assert (row.name, row.state) == ("012", "ACTIVE")
    assert row.config["hyperparameters"] == {"lr": 0.5}
    assert row.options == {
        "started_in": str(Path.cwd()),
        "slots": 1,
        "data_root": str(tmp_path.resolve()),
        "test": True,
        "overrides": ["hyperparameters.lr=0.5", 'name="012"'],
        "owner": row.options["owner"],
    }
    assert re.fullmatch("[0-9a-f]{12}", row.options["owner"])
    files = lab.files(1)
    assert files.config.read_text() == YAML
    assert sorted(path.name for path in files.context.iterdir()) == ["const.yaml", "fake_trial.py"]
    assert sorted(path.name for path in (lab.home / "experiments").iterdir()) == ["1"]


def test_the_launcher_given_takes_the_place_of_the_configs(lab: Any, file: Path) -> None:
    api.submit(file, home=lab.home, launcher="local")
    with lab.reader() as reader:
        assert "local" in json.dumps(reader.experiment(1).config["launcher"])


def test_a_trial_runs_on_the_snapshot_whatever_becomes_of_the_original(lab: Any, file: Path) -> None:
    experiment_id = api.submit(file, home=lab.home)
    (lab.context / "fake_trial.py").unlink()
    assert lab.run(experiment_id)["state"] == "COMPLETED"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("name: single", "name: singel"), r"const\.yaml:6:9: No searcher is named 'singel'\. Did you mean 'single'\?"),
        (("launcher: inline", "launcher: inlien"), r"const\.yaml:9:11: No launcher is named 'inlien'\. Did you mean"),
        (("backend: cpu", "backend: cpuu"), r"const\.yaml:10:10: No backend is named 'cpuu'\. Did you mean 'cpu'\?"),
        (("fake_trial:Fake", "fake_trail:Fake"), r"const\.yaml:2:13: entrypoint: there is no module 'fake_trail'"),
        (("fake_trial:Fake", "fake_trial:Faek"), r"const\.yaml:2:13: .* has no class 'Faek'\. Did you mean"),
        (("fake_trial:Fake", "python3 trian.py"), r"const\.yaml:2:13: entrypoint: there is no file trian\.py in"),
        (("backend: cpu", "loggers: [wandbb]"), r"No logger is named 'wandbb'"),
        (("backend: cpu", "launcher_x: 1"), r"launcher_x"),
    ],
)
def test_a_mistake_is_told_at_its_place(lab: Any, file: Path, change: tuple[str, str], told: str) -> None:
    file.write_text(YAML.replace(*change))
    said = refused(lab, file)
    assert re.search(told, said), said


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("log_policies: [{pattern: oom, action: cancel_retries}]", "'log_policies' is not supported"),
    ],
)
def test_what_this_version_cannot_do_is_refused_at_its_place(lab: Any, file: Path, lines: str, told: str) -> None:
    file.write_text(YAML + lines + "\n")
    said = refused(lab, file)
    assert told in said
    assert "const.yaml:11:" in said


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(lab: Any, file: Path) -> None:
    text = YAML.replace("single", "x-searcher").replace("inline", "x-launcher").replace("fake_trial:", "x_module:")
    file.write_text(text.replace("backend: cpu", "backend: x-backend"))
    with pytest.raises(ConfigError) as told:
        api.submit(file, home=lab.home)
    assert [problem.line for problem in told.value.problems] == [2, 6, 9, 10]


def test_a_context_that_is_no_folder_is_refused(lab: Any, file: Path) -> None:
    assert "does not exist" in refused(lab, file, context=lab.context / "none")
    assert "is not a folder" in refused(lab, file, context=file)


def test_a_data_root_that_is_no_folder_is_refused(lab: Any, file: Path) -> None:
    assert "does not exist" in refused(lab, file, data_root=lab.context / "none")
    assert "is not a folder" in refused(lab, file, data_root=file)


def test_slots_that_this_machine_does_not_have_are_refused(lab: Any, file: Path) -> None:
    assert "at least 1, not 0" in refused(lab, file, slots=0)
    cores = os.cpu_count() or 1
    assert f"--slots {cores + 100}: " in refused(lab, file, slots=cores + 100)


def test_a_config_that_is_not_there_is_refused(lab: Any) -> None:
    assert "no such file" in refused(lab, lab.context / "none.yaml").lower()


def test_a_home_that_cannot_be_used_is_refused(lab: Any, file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file cannot be used.*--home"):
        api.submit(file, home=tmp_path / "file")


def test_a_context_that_is_too_big_stores_nothing(lab: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_trials.experiment.snapshot.MAX_BYTES", 10)
    with pytest.raises(UsageError, match="The biggest: "):
        api.submit(file, home=lab.home)
    with lab.reader() as reader:
        assert reader.experiments() == []
    assert list((lab.home / "experiments").iterdir()) == [] if (lab.home / "experiments").exists() else True


def test_a_submission_that_was_cut_off_before_its_commit_leaves_nothing_in_the_way(lab: Any, file: Path) -> None:
    open_store(lab.home).close()
    leftover = lab.files(1).directory
    leftover.mkdir(parents=True)
    (leftover / "old").touch()
    assert api.submit(file, home=lab.home) == 1
    assert not (leftover / "old").exists()


def test_what_a_submission_that_was_killed_left_is_removed_by_the_next(lab: Any, file: Path) -> None:
    experiments = lab.home / "experiments"
    code = (
        "import os, sys; from pathlib import Path; from mnist_trials.experiment.staging import staging\n"
        "with staging(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(experiments)], timeout=60, check=False)
    (left,) = experiments.iterdir()
    assert (left / "half").exists()
    api.submit(file, home=lab.home)
    assert [path.name for path in experiments.iterdir()] == ["1"]


def test_what_another_submission_is_making_is_left_alone(lab: Any, file: Path) -> None:
    with staging(lab.home / "experiments") as made:
        (made / "half").touch()
        assert api.submit(file, home=lab.home) == 1
        assert (made / "half").exists()
    assert [path.name for path in (lab.home / "experiments").iterdir()] == ["1"]


FEW = YAML.replace("lr: 0.1", "lr: {type: categorical, vals: [1, 2]}\n  n: {type: int, minval: 1, maxval: 3}")


@pytest.mark.parametrize(("trials", "told"), [(7, True), (6, False)])
def test_a_search_at_random_with_fewer_points_than_trials_is_told(
    lab: Any, file: Path, trials: int, told: bool
) -> None:
    file.write_text(FEW.replace("name: single", f"name: random\n  max_trials: {trials}"))
    api.submit(file, home=lab.home)
    said = f"const.yaml:8:15: only 6 trials of searcher.max_trials: {trials} will be made"
    assert (said in lab.notices(1)) == told


def test_a_grid_is_not_told_of_its_number_of_points(lab: Any, file: Path) -> None:
    file.write_text(FEW.replace("name: single", "name: grid").replace("maxval: 3", "maxval: 3, count: 3"))
    api.submit(file, home=lab.home)
    assert lab.notices(1) == ""


@pytest.mark.parametrize(("searcher", "told"), [("random\n  max_trials: 7", True), ("single", False)])
def test_a_search_that_is_only_tested_is_told_that_it_makes_one_trial(
    lab: Any, file: Path, searcher: str, told: bool
) -> None:
    file.write_text(FEW.replace("name: single", f"name: {searcher}"))
    api.submit(file, home=lab.home, test=True)
    assert ("one trial is made" in lab.notices(1)) == told
    assert "will be made" not in lab.notices(1)


def test_warnings_of_the_config_are_notices_of_the_experiment(lab: Any, file: Path) -> None:
    file.write_text(YAML + "workspace: mine\n")
    api.submit(file, home=lab.home)
    assert "workspace" in lab.notices(1)


CORES = len(os.sched_getaffinity(0))
ONCE = ("fake_trial:Fake", "python3 train.py")
LOCAL = ("launcher: inline", "launcher: local")
LAYERED = ("fake_trial:Fake", "python3 -m mnist_trials.launch.torch_distributed python3 train.py")


def test_more_slots_than_there_are_are_refused_with_what_is_there(lab: Any, file: Path) -> None:
    file.write_text(YAML + f"resources: {{slots_per_trial: {CORES + 1}}}\n")
    said = refused(lab, file)
    assert "const.yaml:11:30: " in said
    assert f"a trial takes {CORES + 1} slots, but this machine offers {CORES}: cpu:0 (CPU, 1 core)" in said


def test_a_mesh_that_does_not_fill_all_slots_is_refused(lab: Any, file: Path) -> None:
    file.write_text(YAML + f"mesh: {{data: {CORES}, tensor: 2}}\nresources: {{slots_per_trial: auto}}\n")
    said = refused(lab, file)
    assert f"'mesh' takes {CORES} x 2 = {2 * CORES} slots, but a trial takes {CORES}" in said
    assert "'resources.slots_per_trial: auto'" in said


def test_several_slots_a_mesh_shards_and_deadlines_are_accepted(lab: Any, file: Path) -> None:
    more = f"mesh: {{data: {CORES}, tensor: 1}}\nresources: {{slots_per_trial: auto}}\nshard: true\n"
    file.write_text(YAML.replace(*LOCAL) + more + "watchdog: {start_seconds: 10, progress_seconds: 20}\n")
    assert lab.submit(file) == 1
    assert lab.notices(1) == ""


def test_slots_auto_gives_each_trial_all_slots_of_the_machine_also_in_a_fork(lab: Any, file: Path) -> None:
    file.write_text(YAML.replace(*LOCAL) + "resources: {slots_per_trial: 1}\n")
    first = lab.submit(file, slots="auto")
    fork = api.submit_fork(first, home=lab.home)
    other = api.submit_fork(first, home=lab.home, slots=1, overrides=["resources.slots_per_trial=1"])
    back = api.submit_fork(other, home=lab.home, slots="auto")
    with lab.reader() as reader:
        rows = [reader.experiment(number) for number in (first, fork, other, back)]
    assert [row.config["resources"]["slots_per_trial"] for row in rows] == ["auto", "auto", 1, "auto"]
    assert [row.options.get("slots") for row in rows] == [None, None, 1, None]


def test_slots_auto_is_refused_where_the_launcher_has_one_process_and_the_machine_several_slots(
    lab: Any, file: Path
) -> None:
    if CORES == 1:
        pytest.skip("this machine has one slot")
    assert f"'resources.slots_per_trial: auto' takes {CORES}" in refused(lab, file, slots="auto")


@pytest.mark.parametrize(("entrypoint", "told"), [(ONCE, True), (LAYERED, False)])
def test_a_command_that_will_run_once_on_several_slots_is_told_how_to_run_on_each(
    lab: Any, file: Path, entrypoint: tuple[str, str], told: bool
) -> None:
    (lab.context / "train.py").write_text("")
    file.write_text(YAML.replace(*entrypoint).replace(*LOCAL) + "resources: {slots_per_trial: auto}\n")
    lab.submit(file)
    hint = "To run it on every slot: 'python3 -m mnist_trials.launch.torch_distributed python3 train.py'"
    assert (hint in lab.notices(1)) == told


def test_torchrun_is_found_beside_the_interpreter_and_told_to_leave_its_place_to_the_launch_layer(
    lab: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")  # an environment that is not activated
    more = "resources: {slots_per_trial: auto}\n"
    file.write_text(YAML.replace("fake_trial:Fake", "torchrun --nproc-per-node 2 train.py").replace(*LOCAL) + more)
    lab.submit(file)
    assert "put 'python3 -m mnist_trials.launch.torch_distributed' in the place of torchrun" in lab.notices(1)


def test_a_command_that_runs_once_has_no_mesh(lab: Any, file: Path) -> None:
    (lab.context / "train.py").write_text("")
    more = f"mesh: {{data: {CORES}, tensor: 1}}\nresources: {{slots_per_trial: auto}}\n"
    file.write_text(YAML.replace(*ONCE) + more)
    assert "const.yaml:11:7: a mesh arranges processes, but the command of 'entrypoint' is run once" in refused(
        lab, file
    )
    file.write_text(YAML.replace(*LAYERED).replace(*LOCAL) + more)
    lab.submit(file)


@pytest.mark.skipif(CORES < 2, reason="a trial of two slots takes two cores")
def test_a_launcher_of_one_process_has_no_trials_of_several_but_commands_that_run_once(lab: Any, file: Path) -> None:
    several = "resources: {slots_per_trial: 2}\n"
    file.write_text(YAML + several)
    said = refused(lab, file)
    assert (
        "const.yaml:11:30: the launcher 'inline' runs a trial in one process, but 'resources.slots_per_trial: 2'"
        in said
    )
    (lab.context / "train.py").write_text("")
    file.write_text(YAML.replace(*ONCE) + several)
    lab.submit(file)


@pytest.mark.parametrize(("more", "told"), [("", True), ("resources: {slots_per_trial: auto}\n", CORES == 1)])
def test_shards_are_told_to_have_no_effect_where_one_slot_has_all_of_the_data(
    lab: Any, file: Path, more: str, told: bool
) -> None:
    file.write_text(YAML.replace(*LOCAL) + "shard: true\n" + more)
    lab.submit(file)
    assert ("const.yaml:11:8: 'shard: true' has no effect" in lab.notices(1)) == told


def test_shards_are_told_to_have_no_effect_where_all_slots_that_are_offered_are_one(lab: Any, file: Path) -> None:
    file.write_text(YAML.replace(*LOCAL) + "shard: true\nresources: {slots_per_trial: auto}\n")
    lab.submit(file, slots=1)
    assert "const.yaml:11:8: 'shard: true' has no effect" in lab.notices(1)


def test_cores_that_no_trial_could_use_go_to_those_that_run(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_trials.config import load
    from mnist_trials.experiment.offer import make_offer
    from mnist_trials.plugin import get_plugins

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    document = lab.config() | {"resources": {"slots_per_trial": 3}}
    backend = get_plugins().find("backend", "cpu").factory({})
    launcher = get_plugins().find("launcher", "inline").factory({})
    offer = make_offer("cpu", backend, launcher, load(document).config, None, 4)
    assert (offer.per_trial, offer.trials) == (3, 2)
    assert [slot.threads for slot in offer.slots] == [2, 2, 1, 1, 1, 1]
    assert offer.units is not None
    assert len(offer.units) == 8
