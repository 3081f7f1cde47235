"""The structure, held: import contracts that really bite, no heavy import at module level, one owner of SQLite."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("mnist_trials", "plugins/mnist_trials_plugins")
HEAVY = {
    "torch",
    "torchvision",
    "torchmetrics",
    "torch_xla",
    "jax",
    "flax",
    "optax",
    "optuna",
    "ray",
    "s3fs",
    "fsspec",
    "wandb",
    "safetensors",
    "rich",
}
LEAVES = (
    "mnist_trials/training/",
    "mnist_trials/programs/",
    "mnist_trials/mnist/",
    "mnist_trials/checkpoint/",
    "plugins/mnist_trials_plugins/backends/_jax/",
    "plugins/mnist_trials_plugins/backends/_xla/",
    "plugins/mnist_trials_plugins/backends/_torch/",  # imported by a backend when it is opened
    "plugins/mnist_trials_plugins/searchers/_optuna_",  # and these by their searcher when it is made
)

# One forbidden import for each way a contract can be broken: (contract, file, line).
BREACHES = [
    ("layers", "mnist_trials/records.py", "from mnist_trials import events"),
    ("layers", "mnist_trials/config/load.py", "from mnist_trials import store"),
    ("layers", "mnist_trials/worker/main.py", "from mnist_trials import experiment"),
    ("layers", "mnist_trials/a_new_module.py", "x = 1"),
    ("core-knows-no-plugin", "mnist_trials/plugin/spec.py", "import mnist_trials_plugins.backends.cpu"),
    ("plugins-see-the-plugin-folder", "mnist_trials_plugins/launchers/local.py", "import mnist_trials.worker"),
    ("kinds-are-strangers", "mnist_trials_plugins/launchers/local.py", "import mnist_trials_plugins.backends.cpu"),
    ("workers-see-no-store", "mnist_trials/training/trainer.py", "import mnist_trials.store"),
]


def run_contracts(directory: Path, contract: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    command += ["--config", str(directory / "pyproject.toml"), "--no-cache"]
    if contract:
        command += ["--contract", contract]
    return subprocess.run(
        command,
        cwd=directory,
        env={"PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, directory / Path(package).name, ignore=shutil.ignore_patterns("__pycache__", "*.npz")
        )
    shutil.copy(ROOT / "pyproject.toml", directory)
    return directory


def test_the_import_contracts_hold(copy: Path) -> None:
    outcome = run_contracts(copy)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "0 broken" in outcome.stdout


@pytest.mark.parametrize(("contract", "file", "line"), BREACHES)
def test_a_contract_that_is_broken_on_purpose_fails(copy: Path, contract: str, file: str, line: str) -> None:
    target = copy / file
    before = target.read_text() if target.exists() else None
    target.write_text(f"{before or ''}\n{line}\n")
    try:
        outcome = run_contracts(copy, contract)
    finally:
        if before is None:
            target.unlink()
        else:
            target.write_text(before)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "1 broken" in outcome.stdout or "exhaustive" in outcome.stdout.lower(), outcome.stdout


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "templates" not in path.parts:
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def imports_at_module_level(tree: ast.Module) -> Iterator[str]:
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pending += node.orelse
                continue
            case ast.Import():
                yield from (alias.name.split(".")[0] for alias in node.names)
            case ast.ImportFrom(level=0):
                yield str(node.module).split(".")[0]
        pending += ast.iter_child_nodes(node)


def test_heavy_libraries_are_imported_at_module_level_only_by_the_leaves_that_own_them() -> None:
    offenders = [
        f"{path}: {name}"
        for path, tree in sources()
        for name in imports_at_module_level(tree)
        if name in HEAVY and not path.startswith(LEAVES)
    ]
    assert offenders == []


def test_only_the_store_opens_sqlite() -> None:
    offenders = [
        path
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "sqlite3" in {getattr(node, "module", None), *(alias.name for alias in node.names)}
        and not path.startswith("mnist_trials/store/")
    ]
    assert offenders == []


def test_nothing_is_ever_unpickled() -> None:
    pickling = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
    offenders = [
        path
        for path, tree in sources()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and pickling & {alias.name for alias in node.names})
        or (isinstance(node, ast.ImportFrom) and node.module in pickling)
        or (isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load")
    ]
    assert offenders == []


def test_hooks_are_called_in_one_module_only() -> None:
    offenders = [
        path
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "hook"
        and ast.unparse(node.value).endswith("pm")
        and path != "mnist_trials/plugin/manager.py"
    ]
    assert offenders == []


@pytest.mark.parametrize(
    "module",
    [
        "mnist_trials",
        "mnist_trials.plugin",
        "mnist_trials.config",
        "mnist_trials.experiment.api",
        "mnist_trials.cli.main",
    ],
)
def test_importing_it_imports_no_heavy_library(module: str) -> None:
    code = (
        f"import sys, {module}; from mnist_trials.plugin import get_plugins; get_plugins().plugins(); "
        f"print(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert outcome.stdout.strip() == "[]"
