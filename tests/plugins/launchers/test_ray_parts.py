"""The parts of the launcher `ray` that need no cluster: options, slots, code."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import PluginError
from mnist_trials.plugin import Launcher, get_plugins
from mnist_trials_plugins.launchers._ray_code import pack
from mnist_trials_plugins.launchers._ray_share import Node, Share, offer
from mnist_trials_plugins.launchers.ray import create

SMALL = Node("a", "10.0.0.1", "head", {"CPU": 2.0})
LARGE = Node("b", "10.0.0.2", "gpu", {"CPU": 8.0, "GPU": 2.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adress": "auto"}, "The launcher 'ray' does not take 'adress'. Did you mean 'address'?"),
        ({"address": "ray://head:10001"}, "cannot work through a Ray Client server (ray://head:10001)"),
        ({"address": "head"}, "must be `auto` or HOST:PORT, such as 10.0.0.5:6379, not 'head'"),
        ({"address": "head:99999"}, "not 'head:99999'"),
        ({"cpus_per_slot": 0}, "'cpus_per_slot' of the launcher 'ray' must be a number above 0, not 0"),
        ({"cpus_per_slot": True}, "must be a number above 0, not True"),
        ({"autoscaling": "yes", "address": "auto"}, "'autoscaling' of the launcher 'ray' must be true or false"),
        ({"autoscaling": True}, "'autoscaling' of the launcher 'ray' needs an 'address'"),
    ],
)
def test_an_option_that_cannot_be_says_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError) as refusal:
        create(options)
    assert message in str(refusal.value)


def test_a_launcher_that_was_not_used_has_nothing_to_release() -> None:
    launcher = create({"address": "10.0.0.5:6379"})
    launcher.close()
    assert isinstance(launcher, Launcher)
    assert "ray" in get_plugins().names("launcher")


def test_the_slots_of_a_cluster_are_what_its_nodes_hold_each() -> None:
    slots = offer(Share("cpu", 3), "it", [SMALL, LARGE], wanted=9, per_trial=1, autoscaling=False)
    assert [(slot.id, slot.backend, slot.threads) for slot in slots] == [("ray:0", "cpu", 3), ("ray:1", "cpu", 3)]
    assert slots[0].description == "3 CPUs of it"


def test_a_slot_of_less_than_a_cpu_has_one_thread() -> None:
    slots = offer(Share("cpu", 0.1), "it", [SMALL], wanted=100, per_trial=1, autoscaling=False)
    assert len(slots) == 20
    assert {slot.threads for slot in slots} == {1}


def test_a_slot_of_cuda_is_a_gpu_with_its_cpus() -> None:
    slots = offer(Share("cuda", 4), "it", [SMALL, LARGE], wanted=9, per_trial=2, autoscaling=False)
    assert [slot.description for slot in slots] == ["1 GPU with 4 CPUs of it"] * 2


def test_no_more_is_offered_than_the_experiment_can_use() -> None:
    assert len(offer(Share("cpu", 1), "it", [SMALL, LARGE], wanted=3, per_trial=1, autoscaling=False)) == 3


def test_more_than_there_is_is_refused_with_what_is_there() -> None:
    with pytest.raises(PluginError) as refusal:
        offer(Share("cuda", 1), "the Ray cluster", [LARGE, SMALL], wanted=4, per_trial=4, autoscaling=False)
    assert str(refusal.value) == (
        "a trial takes 4 slots of 1 GPU with 1 CPU each, but the Ray cluster has 2: 10.0.0.1 with 2 CPUs; 10.0.0.2 "
        "with 8 CPUs, 2 GPUs. Ask for less, add nodes, or say `autoscaling: true` if the cluster grows when more is "
        "asked for."
    )


def test_a_cluster_that_grows_has_as_many_slots_as_are_wanted() -> None:
    assert len(offer(Share("cuda", 1), "it", [SMALL], wanted=16, per_trial=4, autoscaling=True)) == 16


def test_devices_that_ray_does_not_know_are_refused() -> None:
    with pytest.raises(PluginError, match="slots for the backends cpu and cuda, not for 'xla'"):
        Share("xla", 1)


@pytest.mark.parametrize(
    ("ranks", "single_node", "fits"),
    [
        ([1, 1, 1], False, True),
        ([1] * 10, False, True),
        ([1] * 11, False, False),
        ([1] * 8, True, True),
        ([1] * 9, True, False),
        ([9], False, False),
        ([8, 2], False, True),
    ],
)
def test_what_can_never_fit_is_known(ranks: list[int], single_node: bool, fits: bool) -> None:
    assert Share("cpu", 1).fits(ranks, [SMALL, LARGE], single_node=single_node) is fits


def test_a_bundle_of_a_command_that_has_several_slots_holds_them_all() -> None:
    assert Share("cuda", 2).bundle(3) == {"CPU": 6.0, "GPU": 3.0}


def test_the_same_code_makes_the_same_archive_and_other_code_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "package").mkdir(parents=True)
        (tmp_path / name / "package" / "trial.py").write_text("x = 1")
        (tmp_path / name / "data").symlink_to("/somewhere/else")
    assert pack(tmp_path / "one") == pack(tmp_path / "two")
    with tarfile.open(fileobj=io.BytesIO(pack(tmp_path / "one"))) as archive:
        assert sorted(archive.getnames()) == [".", "./data", "./package", "./package/trial.py"]
    (tmp_path / "two" / "package" / "trial.py").write_text("x = 2")
    assert pack(tmp_path / "one") != pack(tmp_path / "two")


def test_code_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pack(tmp_path / "nowhere")
