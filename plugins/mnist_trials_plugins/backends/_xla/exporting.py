"""Captured torch programs as StableHLO."""

from __future__ import annotations

import io
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from mnist_trials.errors import PluginError
from mnist_trials.plugin import ArrayKind, Lowered

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_ATEN: Final = torch.ops.aten
_LOADS: Final = "torch_xla.stablehlo.StableHLOGraphModule.load(FOLDER)(array, ...), FOLDER being the unpacked file"
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # of all files in an archive, so that the same program is the same file


def lower(
    name: str, program: ExportedProgram, inputs: Mapping[str, ArrayKind], outputs: Mapping[str, ArrayKind]
) -> Lowered:
    """See `Backend.lower`."""
    from torch_xla.stablehlo import StableHLOExportOptions, exported_program_to_stablehlo

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch and torch_xla about each other
            bundle = exported_program_to_stablehlo(
                program.run_decompositions(_decompositions()), StableHLOExportOptions()
            )
            text = bundle.get_stablehlo_text()
    except Exception as error:
        raise PluginError(f"torch_xla cannot lower it: {_first_line(error)}") from error
    return Lowered(
        name=name,
        text=text,
        inputs=inputs,
        outputs=outputs,
        platforms=(),  # the same for all
        artefact=_packed(bundle),
        suffix=".stablehlo.zip",
        loads=_LOADS,
    )


def _decompositions() -> dict[Any, Any]:
    """What torch_xla 2.9 lowers wrongly, in terms of what it lowers rightly.

    It takes a reduction over no dimension in particular, which torch's own decompositions make of one over all, for one
    over none.
    """
    from torch._decomp import get_decompositions

    return {
        **get_decompositions([_ATEN.nll_loss_forward, _ATEN.nll_loss_backward]),
        _ATEN.sum.default: _sum,
        _ATEN.mean.default: _mean,
        _ATEN.empty.memory_format: _empty,
    }


def _sum(tensor: Any, *, dtype: torch.dtype | None = None) -> Any:
    return _ATEN.sum.dim_IntList(tensor, list(range(tensor.ndim)), False, dtype=dtype)


def _mean(tensor: Any, *, dtype: torch.dtype | None = None) -> Any:
    return _ATEN.mean.dim(tensor, list(range(tensor.ndim)), False, dtype=dtype)


def _empty(size: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> Any:
    """Without values of its own it would be written down with whatever was in that memory."""
    return _ATEN.full.default(size, 0, dtype=dtype, device=device)


def _packed(bundle: Any) -> bytes:
    """The folder that torch_xla makes of a program, in one file."""
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="mnist-trials-stablehlo-") as name, zipfile.ZipFile(packed, "w") as archive:
        bundle.save(name)
        for path in sorted(Path(name).rglob("*")):
            inside = f"{path.relative_to(name)}{'/' * path.is_dir()}"  # empty folders too: they are looked for
            archive.writestr(zipfile.ZipInfo(inside, _DATE), b"" if path.is_dir() else path.read_bytes())
    return packed.getvalue()


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no more is said')[:300]}"
