"""What an optimizer is made of, so that a result is taken again for the same one only.

Names do not tell: a class is edited, a package updated, a factory rewritten under its label.
"""

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions, version
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch.optim import Optimizer

from memsolve.engine.grid import Choice
from memsolve.engine.optimizers import named
from memsolve.environment import Environment

Identity = Environment

WITH_VERSION = ("torch", "memsolve_kernels")
"""Packages whose version is in the environment, and whose source is not followed."""

PLAIN = (int, float, complex, str, bytes, torch.dtype, type(None))
"""Values whose `repr` is all of them."""


def identity(choice: Choice, made: Optimizer) -> Identity:
    """The name, the packages' versions, and a digest of the source of an optimizer.

    The source is that of the class, its bases, and the factory if there is one, with every
    function, class and plain value of the same package that they name, however indirectly.

    Args:
        choice: a name or a factory.
        made: what it has made.
    """
    make = named(choice)[0] if isinstance(choice, str) else choice
    seen: dict[Any, str] = {}
    for start in (make, type(made)):
        _collect(start, seen)
    digest = hashlib.sha256("\n".join(sorted(seen.values())).encode()).hexdigest()[:12]
    packages = sorted({found for each in (make, type(made)) for found in _packages(each)})
    name = choice if isinstance(choice, str) else ""
    return {"optimizer": name, "packages": ", ".join(packages), "source": digest}


def packages(found: Identity) -> Environment:
    """The packages of an identity with their versions."""
    named = [one for one in str(found["packages"]).split(", ") if one]
    return {name: number for name, _, number in (one.rpartition(" ") for one in named)}


def _collect(value: Any, seen: dict[Any, str]) -> None:
    """The sources of a class or function, and of what it names in its package, by object."""
    if isinstance(value, functools.partial):
        seen[value] = _text((value.args, value.keywords))
        _collect(value.func, seen)
    elif isinstance(value, type | FunctionType) and value not in seen:
        seen[value] = f"{value.__module__}.{value.__qualname__}"
        if _package(value) in WITH_VERSION:
            return
        seen[value] += "\n" + _source(value)
        for base in value.__mro__[1:-1] if isinstance(value, type) else ():
            _collect(base, seen)
        for name, other in _named_by(value):
            seen[value] += f"\n{name} = {_text(other)}"
            if _package(other) == _package(value):
                _collect(other, seen)


@functools.cache
def _source(value: type | FunctionType) -> str:
    """The source; where there is none, as of what was typed at a prompt, the bytecode."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        return str([code.co_code for code, _ in _codes(value)])


def _text(value: Any) -> str:
    """A plain value, or a container of such, as text; of all others the kind."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Mapping):
        return _text(list(value.items()))
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_text, value))}]"
    return type(value).__name__


def _named_by(value: type | FunctionType) -> Iterator[tuple[str, Any]]:
    """What the code of a class or function names: globals, defaults, and what it closes over."""
    for code, function in _codes(value):
        named = {
            each: function.__globals__[each]
            for each in code.co_names
            if each in function.__globals__
        }
        yield from named.items()
        for module in named.values():  # `module.function`: whatever of it is named
            if isinstance(module, ModuleType):
                yield from ((each, vars(module).get(each)) for each in code.co_names)
        if code is function.__code__:
            closed = function.__closure__ or ()
            for name, cell in zip(code.co_freevars, closed, strict=True):
                yield name, cell.cell_contents
            yield "defaults", (function.__defaults__, function.__kwdefaults__)


def _codes(value: type | FunctionType) -> Iterator[tuple[CodeType, FunctionType]]:
    """The code of a function or of a class's methods, of what is nested in it too."""
    members = vars(value).values() if isinstance(value, type) else [value]
    for member in members:
        inner: Any = getattr(member, "fget", None) or getattr(member, "__func__", member)
        function = inspect.unwrap(inner)
        if isinstance(function, FunctionType):
            nested = [function.__code__]
            for code in nested:
                nested += [each for each in code.co_consts if isinstance(each, CodeType)]
                yield code, function


def _package(value: Any) -> str:
    return str(getattr(value, "__module__", None) or "").partition(".")[0]


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _packages(value: Any) -> list[str]:
    while isinstance(value, functools.partial):
        value = value.func
    known = {"torch", "memsolve", "memsolve_kernels"}  # those of the environment
    names = _distributions().get(_package(value), [])
    return [f"{name} {version(name)}" for name in names if name not in known]
