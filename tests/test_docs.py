"""The documentation cannot drift: hooks are documented, links lead somewhere, and what is shown runs or loads."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import mnist_trials as mt
import mnist_trials.testing
from mnist_trials.config import load
from mnist_trials.errors import PluginError
from mnist_trials.events import CheckpointSaved
from mnist_trials.plugin import Hooks, LoggerContext, PluginManager, get_plugins
from mnist_trials.records import CheckpointInfo

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BESIDE = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
PAGES = [*DOCS, *BESIDE, *sorted((ROOT / "examples").rglob("*.md"))]
HOOKS = [name for name in vars(Hooks) if name.startswith("mnist_trials_")]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_the_arguments_of_its_factory(hook: str) -> None:
    arguments = re.search(r"factory\((.*?)\)", inspect.getdoc(getattr(Hooks, hook)) or "")
    assert arguments
    names = ", ".join(argument.split(":")[0].strip() for argument in arguments[1].split(","))
    assert f"| `{hook}` | `factory({names})` |" in (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_every_suite_is_documented() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert [name for name in mnist_trials.testing.__all__ if f"`{name}`" not in page] == []


def prose_of(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors_of(page: Path) -> set[str]:
    """What links to the headings of a page end in, as they are shown by hosts of repositories."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_into_the_project_leads_somewhere(page: Path) -> None:
    lost = []
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", prose_of(page)):
        there = page.parent / target if target else page
        if not there.exists() or (anchor and anchor not in anchors_of(there)):
            lost.append(f"{target}#{anchor}")
    assert lost == []


@pytest.mark.parametrize("page", [page for page in DOCS if page.name != "cluster.md"], ids=lambda page: page.name)
def test_every_piece_of_a_config_that_is_shown_loads(page: Path) -> None:
    whole = {"entrypoint": "trial:Trial", "searcher": {"name": "single", "metric": "loss", "max_length": 1}}
    for block in blocks(page, "yaml"):
        assert load({**whole, **yaml.safe_load(block)}).warnings == (), block


def test_every_public_name_is_documented() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS)
    assert [name for name in mt.__all__ if name[0] != "_" and not re.search(rf"\bmt\.{name}\b", text)] == []
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    public = {name for name in dir(mt.Experiment) if name[0] != "_"}
    public |= {*inspect.signature(mt.create).parameters, *inspect.signature(mt.init).parameters}
    assert {name for name in public if not re.search(rf"\b{name}\b", page)} == set()


def test_the_python_of_the_page_about_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (program,) = blocks(ROOT / "docs" / "python.md", "python")
    exec(program, {"__name__": "__main__"})


def test_every_logger_is_documented_with_its_options() -> None:
    text = (ROOT / "docs" / "loggers.md").read_text(encoding="utf-8")
    for name in ("json_lines", "wandb"):
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        with pytest.raises(PluginError, match="nonesuch") as refused:
            get_plugins().find("logger", name).factory({"nonesuch": 1})
        taken = re.findall(r"\w+", str(refused.value).rpartition(":")[2])
        assert taken
        assert [option for option in taken if f"`{option}`" not in section] == []


def test_the_page_that_is_an_overview_links_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []


def test_make_demo_and_make_test_are_the_first_two_commands_of_the_readme() -> None:
    first = re.search(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert first
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == ["make demo", "make test"]


def test_the_trial_and_the_config_of_the_readme_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (trial,) = blocks(ROOT / "README.md", "python")
    (config,) = blocks(ROOT / "README.md", "yaml")
    (tmp_path / "trial.py").write_text(trial)
    (tmp_path / "mine.yaml").write_text(config)
    assert load(tmp_path / "mine.yaml").warnings == ()
    experiment = mt.create(tmp_path / "mine.yaml", launcher="local", test=True, home=tmp_path / "home")
    assert experiment.wait(timeout=240)["state"] == "COMPLETED"


def test_the_plugin_of_the_page_about_plugins_works(tmp_path: Path) -> None:
    module: dict[str, Any] = {}
    exec(blocks(ROOT / "docs" / "plugins.md", "python")[0], module)
    manager = PluginManager()
    manager.register(type("Plugin", (), {"mnist_trials_loggers": staticmethod(module["mnist_trials_loggers"])})())
    logger = manager.find("logger", "counter").factory({})
    logger.start(LoggerContext(experiment_id=1, name="x", config={}, directory=tmp_path))
    info = CheckpointInfo(uuid="u", batches=1, epochs=1.0, records=1, metrics={}, bytes=1, location="")
    logger.event(CheckpointSaved(trial_id=1, run=1, checkpoint=info))
    assert (tmp_path / "checkpoints.txt").read_text() == "1\n"
