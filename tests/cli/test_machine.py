"""`plugins` and `slots`."""

from __future__ import annotations

from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.lock import controller_lock
from mnist_trials.store import open_store
from mnist_trials.store.rows import LeaseRow, WaitingRow
from tests.cli.written_search import SINGLE

PLUGINS = {
    ("backend", "cpu"),
    ("backend", "cuda"),
    ("checkpoint_storage", "directory"),
    ("checkpoint_storage", "shared_fs"),
    ("launcher", "inline"),
    ("launcher", "local"),
    ("logger", "json_lines"),
    ("logger", "wandb"),
    ("searcher", "single"),
}


def test_every_plugin_of_this_version_is_listed_with_its_origin(cli) -> None:
    plugins = cli("plugins", "--json").document
    assert {(plugin["kind"], plugin["name"]) for plugin in plugins} >= PLUGINS
    cpu = next(plugin for plugin in plugins if plugin["name"] == "cpu")
    assert cpu["distribution"] == "mnist-trials"
    assert cpu["available"] is True
    assert cpu["reason"] is None


def test_plugins_of_one_kind(cli) -> None:
    lines = cli("plugins", "--kind", "launcher").out.splitlines()
    assert {line.split()[1] for line in lines[1:]} >= {"inline", "local"}
    assert all(line.startswith("launcher") for line in lines[1:])


def test_a_kind_that_is_none_is_told_with_all_kinds(cli) -> None:
    outcome = cli("plugins", "--kind", "lancher")
    assert outcome.status == 2
    assert "'launcher'" in outcome.err


def test_a_plugin_that_cannot_be_loaded_is_listed_with_the_reason_and_takes_no_other_with_it(program, tmp_path) -> None:
    distribution = tmp_path / "broken-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[mnist_trials]\nbroken = no_such_module_here\n")
    outcome = program("plugins", PYTHONPATH=str(tmp_path))
    assert outcome.status == 0
    (line,) = [line for line in outcome.out.splitlines() if "broken" in line]
    assert "No module named 'no_such_module_here'" in line
    assert "single" in outcome.out


def test_slots_lists_the_cores_of_this_machine(cli) -> None:
    slots = cli("slots", "--json").document
    assert any(slot["backend"] == "cpu" for slot in slots)
    assert all(slot["trials"] == [] for slot in slots)
    assert "cpu" in cli("slots").out


def test_cores_and_devices_that_several_backends_can_use_are_told_once(cli) -> None:
    slots = cli("slots", "--json").document
    assert len({slot["id"] for slot in slots}) == len(slots)
    assert not any(slot["backend"] == "xla" for slot in slots)  # its slots are the same cores here


def test_slots_tells_who_holds_a_core_and_who_waits_for_it_as_long_as_they_live(cli, home) -> None:
    text = "waits for 1 slot: cpu held by experiment 1 (trial 1.4)"
    with open_store(home) as store, store.transaction() as transaction:
        for name in ("one", "two"):
            transaction.add_experiment(name, SINGLE, {})
        transaction.take_leases([LeaseRow(unit="cpu.0", experiment_id=1, trial_id=4, run=2)])
        transaction.queue(
            WaitingRow(
                experiment_id=2, trial_id=3, place=9, since=5.0, slots=1, units=frozenset({"cpu.0", "cpu.1"}), text=text
            )
        )

    def first() -> tuple[list[str], list[dict[str, object]]]:
        slot = cli("slots", "--json").document[0]
        return slot["trials"], slot["waiting"]

    assert first() == ([], [])
    with controller_lock(ExperimentFiles(home, 1).lock, 1):
        assert first() == (["1.4"], [])
        with controller_lock(ExperimentFiles(home, 2).lock, 2):
            assert first() == (["1.4"], [{"trial": "2.3", "slots": 1, "since": 5.0, "message": text}])
            lines = cli("slots").out.splitlines()
            assert f"  waiting     trial 2.3 {text}\n" in cli("describe", 2).out
            assert "waiting" not in cli("describe", 1).out
    assert lines[1].split()[0] == "cpu:0"
    assert lines[1].endswith("1.4")
    assert lines[-1] == f"trial 2.3 {text}"
