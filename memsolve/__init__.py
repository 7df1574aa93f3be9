"""Benchmark optimizers that store facts, against the laws of arXiv 2603.26554."""

from importlib import import_module

TYPE_CHECKING = False  # `python -m memsolve` would take a typing.py in the current folder
if TYPE_CHECKING:
    from typing import Any

    from memsolve_kernels.errors import InputError

    from memsolve.api import run
    from memsolve.engine.execution.dask_executor import DaskExecutor
    from memsolve.frequencies import Batch
    from memsolve.problem import AssociativeMemory, Curvature
    from memsolve.recall import Recall
    from memsolve.study.registry import load

    __version__: str

__all__ = [
    "AssociativeMemory",
    "Batch",
    "Curvature",
    "DaskExecutor",
    "InputError",
    "Recall",
    "__version__",
    "load",
    "run",
]

_HOMES = {
    "AssociativeMemory": "memsolve.problem",
    "Batch": "memsolve.frequencies",
    "Curvature": "memsolve.problem",
    "DaskExecutor": "memsolve.engine.execution.dask_executor",
    "InputError": "memsolve_kernels.errors",
    "Recall": "memsolve.recall",
    "load": "memsolve.study.registry",
    "run": "memsolve.api",
}


def __getattr__(name: str) -> "Any":
    """Import on first use, so that the command can be interrupted while torch is imported."""
    if name == "__version__":
        return import_module("memsolve.version").version_of("memsolve")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
