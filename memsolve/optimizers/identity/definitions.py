"""What functions, classes and modules are made of: their code, and what it names."""

import contextlib
import functools
import hashlib
import importlib
import sys
from collections.abc import Mapping
from importlib.util import resolve_name
from types import CodeType, FunctionType, ModuleType
from typing import Any

from memsolve.optimizers.identity.code import Import, Lookup, bytecode
from memsolve.optimizers.identity.content import SET_BY_PYTHON, Content
from memsolve.optimizers.identity.origin import file_of, is_own, own_file, root_of

HEAP_TYPE = 1 << 9
"""Of `type.__flags__`: the class was made while Python ran, not by an extension's table."""


def describe_function(content: Content, function: FunctionType) -> None:
    """Add a function: its code, its defaults, and what it names, or that it is installed."""
    module = _module(function)
    if "_torchdynamo_orig_callable" in vars(function):  # torch.compile's wrapper
        content.add(vars(function)["_torchdynamo_orig_callable"])
    elif is_own(module):
        content.enter(function.__qualname__, root_of(module))
        content.put("function", function.__qualname__)
        describe_code(content, function.__code__)
        content.add((function.__defaults__, function.__kwdefaults__))
        _add_named(content, function)
        content.add_members(vars(function))
    else:
        content.add_installed(module, function.__code__.co_qualname)
        if function.__closure__:  # what a decorator has made, of a function that may be own
            content.add_members(_closed_over(function))
            content.add_members(vars(function))


def describe_code(content: Content, code: CodeType) -> None:
    """Add what code does, without what it names."""
    found = bytecode(code)
    content.add(found.head)
    for name, argument in found.steps:
        content.put(name)
        if isinstance(argument, CodeType):
            describe_code(content, argument)
        else:
            content.add(argument)


def describe_class(content: Content, cls: type) -> None:
    """Add a class: its metaclass, bases and members, or that it is installed."""
    own = is_own(cls.__module__)
    if not own:
        content.add_installed(cls.__module__, cls.__qualname__)
        if _is_static(cls) or _importable(cls):
            content.add_members({name: each for name, each in vars(cls).items() if _is_put(each)})
            return
    content.enter(cls.__qualname__, root_of(cls.__module__) if own else None)
    content.put("class", cls.__qualname__)
    content.add((type(cls), cls.__bases__))
    content.add_members(_members(cls))
    if own:
        add_extension(content, cls.__module__)


def describe_module(content: Content, module: ModuleType) -> None:
    """Add all of a module, or that it is installed."""
    name = module.__name__
    if is_own(name):
        content.enter(name, root_of(name))
        content.put("module")
        content.add_members(vars(module))
        add_extension(content, name)
    else:
        content.add_installed(name, "")


def add_extension(content: Content, module: str) -> None:
    """Add the file of a module that is not written in Python."""
    file = file_of(module)
    if file is not None and not file.endswith(".py"):
        with open(file, "rb") as opened:
            content.put("file", hashlib.file_digest(opened, "sha256").hexdigest())


def _add_named(content: Content, function: FunctionType) -> None:
    """Add what the code of a function looks up and imports."""
    closed, found = _closed_over(function), bytecode(function.__code__)
    for lookup in found.lookups:
        name = lookup.name
        if name in closed:
            _follow(content, lookup, closed[name])
        elif name in function.__globals__:
            if name not in SET_BY_PYTHON:
                _follow(content, lookup, function.__globals__[name])
        elif name in ("eval", "exec", "globals"):
            content.put(name)
            content.add_members(function.__globals__)
        elif name == "__import__":
            content.refuse("an import by a computed name")
    for each in found.imports:
        _add_import(content, each, function.__globals__)


def _follow(content: Content, lookup: Lookup, value: Any) -> None:
    """Add what a name stands for; of a module of the user's own, what is taken of it."""
    name, attributes = lookup
    path = ".".join((value.__name__, *attributes)) if isinstance(value, ModuleType) else ""
    if path == "importlib.import_module" or value is importlib.import_module:
        content.refuse("an import by a computed name")
    if path.startswith("torch.ops") and not path.startswith("torch.ops.aten."):
        content.refuse(path)
    for attribute in attributes:
        if not isinstance(value, ModuleType) or not is_own(value.__name__):
            break
        if attribute not in vars(value):
            break
        name, value = f"{name}.{attribute}", vars(value)[attribute]
    content.put("name", name)
    content.add(value)


def _add_import(content: Content, each: Import, names: Mapping[str, Any]) -> None:
    """Add what code imports when it runs."""
    try:
        path = resolve_name("." * each.level + each.module, str(names.get("__package__") or ""))
    except ImportError:
        return  # as it will be when it runs
    module = sys.modules.get(path)
    if module is None:  # its import waits for a later step, or never comes
        file = own_file(path)
        content.put("import", path, file.read_bytes() if file else "")
        return
    for name in each.names or ("*",):
        _follow(content, Lookup(path, () if name == "*" else (name,)), module)


def _closed_over(function: FunctionType) -> dict[str, Any]:
    """What a function closes over, by name."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the cell is empty yet
            found[name] = cell.cell_contents
    return found


def _members(cls: type) -> dict[str, Any]:
    """Members of a class as it was defined.

    Making the first optimizer of a class makes torch wrap its `step` in place, or that of a base
    that was not wrapped yet.
    """
    found = {}
    for name, value in vars(cls).items():
        inherited = [vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)]
        original = _unhooked(value)
        if original is value or not any(_unhooked(each) is original for each in inherited):
            found[name] = original
    return found


def _unhooked(member: Any) -> Any:
    """The function that torch has wrapped for its profiler, or the member itself."""
    hooked = isinstance(member, FunctionType) and "hooked" in vars(member)
    return vars(member).get("__wrapped__", member) if hooked else member


def _is_put(member: Any) -> bool:
    """Whether a member of an installed class is a function of the user's own."""
    return isinstance(member, FunctionType) and is_own(_module(member))


def _is_static(cls: type) -> bool:
    return not cls.__flags__ & HEAP_TYPE


def _importable(cls: type) -> bool:
    """Whether a class stands in its module under its name."""
    module: Any = sys.modules.get(cls.__module__)
    path = cls.__qualname__.split(".")
    return functools.reduce(lambda found, name: getattr(found, name, None), path, module) is cls


def _module(function: FunctionType) -> str:
    """The module whose names a function looks up; `__module__` is a decorator's to change."""
    return str(function.__globals__.get("__name__", ""))
