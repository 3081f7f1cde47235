"""Whether an entrypoint is there, found without importing anything: what it raises is for the trial's log."""

from __future__ import annotations

import ast
import difflib
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, all_suffixes
from pathlib import Path

from mnist_trials.config import Entrypoint


def check_entrypoint(entrypoint: Entrypoint, context: Path) -> str | None:
    """What is wrong with `entrypoint` as it would be run in `context`, in a sentence; None where nothing is."""
    if entrypoint.trial is not None:
        return _check_trial(entrypoint.trial, context)
    return _check_command(entrypoint.command, context)


def _check_trial(trial: str, context: Path) -> str | None:
    module, _, name = trial.partition(":")
    found = _find(module, context)
    if found is None:
        return f"there is no module '{module}' in {context}, and none is installed.{_near_module(module, context)}"
    if found.suffix != ".py":
        return None  # compiled: only an import would tell
    try:
        tree = ast.parse(found.read_bytes(), str(found))
    except SyntaxError as error:
        return f"{found}:{error.lineno}:{error.offset}: {error.msg}."
    except (OSError, ValueError) as error:
        return f"{found} cannot be read: {error}."
    names = _names(tree.body)
    if name in names or "*" in names or "__getattr__" in names:
        return None
    classes = sorted(node.name for node in tree.body if isinstance(node, ast.ClassDef))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean '{module}:{near[0]}'?" if near else ""
    return f"{found} has no class '{name}'.{hint} It has: {', '.join(classes) or 'no class at all'}."


def _find(module: str, context: Path) -> Path | None:
    """The file of `module` as a worker would find it; no package on the way is imported."""
    first, *rest = module.split(".")
    spec = PathFinder.find_spec(first, [str(context)]) or _installed(first)
    if spec is None:
        return None
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for part in rest:
        file, folders = _below(part, folders)
    return file


def _below(name: str, folders: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """The file of the module `name` of a package that lies in `folders`, and where its own modules lie."""
    for folder in folders:
        if (package := folder / name / "__init__.py").is_file():
            return package, [folder / name]
        for suffix in all_suffixes():
            if (file := folder / f"{name}{suffix}").is_file():
                return file, []
    return None, [folder / name for folder in folders if (folder / name).is_dir()]


def _installed(name: str) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, None)
        if spec is not None:
            return spec
    return None


def _names(body: Sequence[ast.stmt]) -> set[str]:
    """The names that a module's own statements may bind, also under `if` and `try`."""
    names: set[str] = set()
    for statement in body:
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names.update((alias.asname or alias.name).split(".")[0] for alias in aliases)
            case ast.Assign(targets=targets):
                names.update(node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.If() | ast.Try() | ast.With() | ast.For():
                for block in ("body", "orelse", "finalbody"):
                    names |= _names(getattr(statement, block, []))
                for handler in getattr(statement, "handlers", []):
                    names |= _names(handler.body)
    return names


def _near_module(module: str, context: Path) -> str:
    there = sorted(path.stem for path in context.glob("*.py") if path.stem != "__init__")
    near = difflib.get_close_matches(module, there, n=1)
    if near:
        return f" Did you mean '{near[0]}'?"
    return (
        f" {context} has: {', '.join(there[:10])}." if there else f" {context} has no Python file; is it the CONTEXT?"
    )


def _check_command(command: Sequence[str], context: Path) -> str | None:
    program = command[0]
    # A worker looks beside its own interpreter first.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if shutil.which(program, path=path) is None and not (context / program).is_file():
        return f"there is no program '{program}' on the PATH or in {context}."
    script = command[1] if len(command) > 1 and Path(program).name.startswith("python") else ""
    if script.endswith(".py") and not script.startswith("-") and not (context / script).is_file():
        there = sorted(path.name for path in context.glob("*.py"))
        near = difflib.get_close_matches(script, there, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"there is no file {script} in {context}.{hint}"
    return None
