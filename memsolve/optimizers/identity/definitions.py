"""Parts of functions, classes and modules: their code, and the values that it names."""

import contextlib
import hashlib
import importlib
import sys
from collections.abc import Mapping
from importlib.util import resolve_name
from types import CodeType, FunctionType, ModuleType
from typing import Any

from memsolve.optimizers.identity.code import Import, Lookup, bytecode
from memsolve.optimizers.identity.origin import is_own, origin_of
from memsolve.optimizers.identity.parts import Definition, Installed, Part, Refusal, Value
from memsolve.optimizers.identity.sources import own_sources

HEAP_TYPE = 1 << 9
"""In `type.__flags__`: the class was made while Python ran, not by an extension's table."""

SET_BY_PYTHON = {
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__doc__", "__dict__", "__weakref__", "__module__", "__firstlineno__"),
    *("__static_attributes__", "__slotnames__", "_abc_impl"),
    *("__builtins__", "__cached__", "__file__", "__loader__", "__name__", "__package__"),
    *("__path__", "__spec__", "__warningregistry__"),
}
"""Members of classes and modules that say where they were defined, or cache something."""

COMPUTED_IMPORT = Refusal("an import by a computed name")


def describe_function(function: FunctionType) -> list[Part]:
    """A function: its code, its defaults, and the values that it names; or its installed name."""
    if "_torchdynamo_orig_callable" in vars(function):  # the wrapper of torch.compile
        return [Value(vars(function)["_torchdynamo_orig_callable"])]
    module = _module_of(function)
    origin = origin_of(module)
    if origin.own:
        return [
            Definition(function.__qualname__, origin.root),
            *("function", function.__qualname__),
            *describe_code(function.__code__),
            Value((function.__defaults__, function.__kwdefaults__)),
            *_named_values(function),
            *_member_parts(vars(function)),
        ]
    parts: list[Part] = [Installed(module, function.__code__.co_qualname)]
    if function.__closure__:  # made by a decorator, of a function that may be the user's own
        parts += _member_parts(_closure(function)) + _member_parts(vars(function))
    return parts


def describe_code(code: CodeType) -> list[Part]:
    """The operations of code, without the values that it names."""
    operations = bytecode(code)
    parts: list[Part] = [Value(operations.head)]
    for name, argument in operations.steps:
        parts.append(name)
        nested = isinstance(argument, CodeType)
        parts += describe_code(argument) if nested else [Value(argument)]
    return parts


def describe_class(cls: type) -> list[Part]:
    """A class: its metaclass, bases and members; or its installed name."""
    origin = origin_of(cls.__module__)
    parts: list[Part] = []
    if not origin.own:
        parts.append(Installed(cls.__module__, cls.__qualname__))
        if not cls.__flags__ & HEAP_TYPE or _is_importable(cls):
            return parts + _member_parts(_patched_members(cls))
    return [
        *parts,
        Definition(cls.__qualname__, origin.root),
        *("class", cls.__qualname__),
        Value((type(cls), cls.__bases__)),
        *_member_parts(_original_members(cls)),
        *describe_extension(origin.extension),
    ]


def describe_module(module: ModuleType) -> list[Part]:
    """A module with all its members; or its installed name."""
    name = module.__name__
    origin = origin_of(name)
    if not origin.own:
        return [Installed(name, "")]
    return [
        Definition(name, origin.root),
        "module",
        *_member_parts(vars(module)),
        *describe_extension(origin.extension),
    ]


def describe_extension(file: str | None) -> list[Part]:
    """The file of a module that is not written in Python; nothing for other modules."""
    if file is None:
        return []
    with open(file, "rb") as stream:
        return ["file", hashlib.file_digest(stream, "sha256").hexdigest()]


def _member_parts(members: Mapping[str, Any]) -> list[Part]:
    """Members of a class, module or function, in the order of their names."""
    parts: list[Part] = []
    for name, value in sorted(members.items()):
        if name not in SET_BY_PYTHON:
            parts += ["member", name, Value(value)]
    return parts


def _named_values(function: FunctionType) -> list[Part]:
    """The values of the names that a function looks up, and the modules that it imports."""
    closure, code = _closure(function), bytecode(function.__code__)
    parts: list[Part] = []
    for lookup in code.lookups:
        name = lookup.name
        if name in closure:
            parts += _follow(lookup, closure[name])
        elif name in function.__globals__:
            if name not in SET_BY_PYTHON:
                parts += _follow(lookup, function.__globals__[name])
        elif name in ("eval", "exec", "globals"):
            parts += [name, *_member_parts(function.__globals__)]
        elif name == "__import__":
            parts.append(COMPUTED_IMPORT)
    for each in code.imports:
        parts += _imported_values(each, function.__globals__)
    return parts


def _follow(lookup: Lookup, value: Any) -> list[Part]:
    """The value of a name; of a module of the user's own, the attribute that is looked up."""
    name, attributes = lookup
    path = ".".join((value.__name__, *attributes)) if isinstance(value, ModuleType) else ""
    if path in ("importlib.import_module", "sys.modules") or value is importlib.import_module:
        return [COMPUTED_IMPORT]
    if path.startswith("torch.ops") and not path.startswith("torch.ops.aten."):
        return [Refusal(path)]
    for attribute in attributes:
        if not isinstance(value, ModuleType) or attribute not in vars(value):
            break
        if not is_own(value.__name__):
            break
        name, value = f"{name}.{attribute}", vars(value)[attribute]
    return ["name", name, Value(value)]


def _imported_values(each: Import, names: Mapping[str, Any]) -> list[Part]:
    """The values that code imports when it runs."""
    try:
        path = resolve_name("." * each.level + each.module, str(names.get("__package__") or ""))
    except ImportError:
        return []  # as it will be when it runs
    module = sys.modules.get(path)
    if module is None:  # its import waits for a later step, or never comes
        return ["import", path, *_source_parts(path, *(f"{path}.{name}" for name in each.names))]
    parts: list[Part] = []
    for name in each.names or ("*",):
        parts += _follow(Lookup(path, () if name == "*" else (name,)), module)
        if name not in vars(module):
            parts += _source_parts(f"{path}.{name}")
    return parts


def _source_parts(*modules: str) -> list[Part]:
    """The files of modules that are not loaded, and of those that they import."""
    return [part for source in own_sources(modules).items() for part in source]


def _closure(function: FunctionType) -> dict[str, Any]:
    """The values that a function closes over, by name."""
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the cell is still empty
            values[name] = cell.cell_contents
    return values


def _original_members(cls: type) -> dict[str, Any]:
    """Members of a class as it was defined.

    The first optimizer of a class makes torch wrap its `step` in place, or that of a base class
    that was not wrapped yet.
    """
    members = {}
    for name, value in vars(cls).items():
        inherited = [vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)]
        original = _unwrapped(value)
        if original is value or not any(_unwrapped(each) is original for each in inherited):
            members[name] = original
    return members


def _unwrapped(member: Any) -> Any:
    """The function that torch has wrapped for its profiler, or the member itself."""
    wrapped = isinstance(member, FunctionType) and "hooked" in vars(member)
    return vars(member).get("__wrapped__", member) if wrapped else member


def _patched_members(cls: type) -> dict[str, Any]:
    """Members of an installed class that are functions of the user's own."""
    functions = {name: each for name, each in vars(cls).items() if isinstance(each, FunctionType)}
    modules = {_module_of(each) for each in functions.values()} - {cls.__module__}
    own = {module for module in modules if is_own(module)}
    return {name: each for name, each in functions.items() if _module_of(each) in own}


def _is_importable(cls: type) -> bool:
    """Whether a class is in its module under its own name."""
    value: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        value = getattr(value, name, None)
    return value is cls


def _module_of(function: FunctionType) -> str:
    """The module whose names a function looks up; a decorator may change its `__module__`."""
    return str(function.__globals__.get("__name__", ""))
