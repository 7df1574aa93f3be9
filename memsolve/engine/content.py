"""A digest of values by their content, and of the code behind them.

Objects are numbered in the order in which they are reached, so that cycles end, and described one
after another. No library serves: `joblib.hash` and pickle take functions and classes by name, and
cloudpickle says of itself that its bytes are not deterministic (line numbers, file names and the
order of sets are in them).
"""

import contextlib
import contextvars
import copyreg
import hashlib
import importlib
import io
import logging
import os
import random
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from importlib.util import resolve_name
from pathlib import PurePath
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch

from memsolve.engine.code import Import, Lookup, bytecode
from memsolve.engine.origin import file_of, is_own, own_file, root_of

PLAIN = {
    *(bool, int, float, complex, bytes, type(None), type(...), type(NotImplemented), range),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.finfo, torch.iinfo),
}
"""Types whose `repr` is the whole value."""

LIVE = (
    *(type(os.environ), io.IOBase, logging.Logger, logging.Handler, threading.Thread),
    *(type(threading.Lock()), type(threading.RLock()), threading.local, contextvars.ContextVar),
    *(weakref.ref, weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet),
    *(random.Random, np.random.Generator, np.random.BitGenerator, np.random.RandomState),
    torch.Generator,
)
"""Types whose values are state of the process: of such a value only the class counts."""

DESCRIBED_BY_PYTHON = {
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__doc__", "__dict__", "__weakref__", "__module__", "__firstlineno__"),
    *("__static_attributes__", "__slotnames__", "_abc_impl"),
    *("__builtins__", "__cached__", "__file__", "__loader__", "__name__", "__package__"),
    *("__path__", "__spec__", "__warningregistry__"),
}
"""Members of classes and modules that Python sets: where they are defined, and caches."""

HEAP_TYPE = 1 << 9
"""Of `type.__flags__`: the class was made while Python ran."""

MOST = 100_000
"""Objects that are described for one optimizer, and no more: some make new ones without end."""


class UnidentifiedError(Exception):
    """A value without a content that could be compared; the message says what and where."""


class Content:
    """What values and the code behind them are made of.

    Args:
        within: the sets, by `id`, that hold what is described: a set is described by the digests
            of its members, which may hold the set in turn.

    Attributes:
        installed: names of the installed modules that have been reached.
    """

    def __init__(self, within: frozenset[int] = frozenset()) -> None:
        self.installed: set[str] = set()
        self._hash = hashlib.sha256()
        self._numbers: dict[int, int] = {}
        self._reached: list[Any] = []  # keeps them alive: the `id` of what is gone is given again
        self._waiting: deque[tuple[Any, str, str | None]] = deque()
        self._within = within
        self._where = "the factory"
        self._root: str | None = None

    def digest(self, *values: Any) -> str:
        """The digest of values in their order, in hexadecimal digits.

        Raises:
            UnidentifiedError: one of them holds what cannot be identified.
        """
        try:
            self._add(values)
            while self._waiting:
                value, self._where, self._root = self._waiting.popleft()
                self._describe(value)
        except RecursionError as error:
            raise UnidentifiedError(f"values nested too deeply, in {self._where}") from error
        return self._hash.hexdigest()[:16]

    def _put(self, *texts: object) -> None:
        for text in texts:
            data = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
            self._hash.update(b"%d:" % len(data) + data)

    def _add(self, value: Any) -> None:
        """Add a value: at once if nothing can change it, else by number, to be described later."""
        kind = type(value)
        if kind in PLAIN:
            self._put(kind.__name__, repr(value))
        elif kind is str or isinstance(value, PurePath):
            text = str(value)
            self._put(kind.__name__, text.replace(self._root, "~") if self._root else text)
        elif kind is tuple:
            self._put("tuple", len(value))
            for each in value:
                self._add(each)
        elif kind in (set, frozenset):
            self._add_set(value)
        elif id(value) in self._numbers:
            self._put("again", self._numbers[id(value)])
        else:
            self._number(value)

    def _number(self, value: Any) -> None:
        if len(self._reached) == MOST:
            raise UnidentifiedError(f"more than {MOST} objects, in {self._where}")
        self._numbers[id(value)] = len(self._reached)
        self._put("new", len(self._reached))
        self._reached.append(value)
        self._waiting.append((value, self._where, self._root))

    def _add_set(self, value: Iterable[Any]) -> None:
        if id(value) in self._within:
            self._put("this set")
            return
        found = []
        for each in value:
            inner = Content(self._within | {id(value)})
            inner._where, inner._root = self._where, self._root
            found.append(inner.digest(each))
            self.installed |= inner.installed
        self._put(type(value).__name__, len(found), *sorted(found))

    def _describe(self, value: Any) -> None:
        """Add what an object is made of."""
        if type(value) in (list, dict):
            self._put(type(value).__name__, len(value))
            for each in value.items() if isinstance(value, dict) else value:
                self._add(each)
            return
        known = (describe for kinds, describe in HANDLERS if isinstance(value, kinds))
        next(known, Content._describe_instance)(self, value)

    def _add_named(self, members: Mapping[str, Any]) -> None:
        """Add members of a class, module or function, in the order of their names."""
        for name, value in sorted(members.items()):
            if name not in DESCRIBED_BY_PYTHON:
                self._put("member", name)
                self._add(value)

    def _add_installed(self, module: str, name: str) -> None:
        self._put("installed", module, name)
        self.installed.add(module)

    # Code

    def _describe_function(self, function: FunctionType) -> None:
        module = str(function.__globals__.get("__name__", ""))
        closed = _closed_over(function)
        if "_torchdynamo_orig_callable" in vars(function):  # torch.compile's wrapper
            self._add(vars(function)["_torchdynamo_orig_callable"])
        elif not is_own(module):
            self._add_installed(module, function.__code__.co_qualname)
            if closed:  # a decorator's wrapper, or what it makes
                self._add_named(closed)
                self._add_named(vars(function))
        else:
            self._where, self._root = function.__qualname__, root_of(module)
            self._put("function", function.__qualname__)
            self._describe_code(function.__code__)
            self._add((function.__defaults__, function.__kwdefaults__))
            for lookup in bytecode(function.__code__).lookups:
                self._look_up(lookup, closed, function.__globals__)
            for each in bytecode(function.__code__).imports:
                self._import(each, str(function.__globals__.get("__package__") or ""))
            self._add_named(vars(function))

    def _describe_code(self, code: CodeType) -> None:
        found = bytecode(code)
        self._add(found.head)
        for name, argument in found.steps:
            self._put(name)
            if isinstance(argument, CodeType):
                self._describe_code(argument)
            else:
                self._add(argument)

    def _look_up(self, lookup: Lookup, closed: Mapping[str, Any], names: Mapping[str, Any]) -> None:
        name, attributes = lookup
        if name in closed:
            self._follow(name, closed[name], attributes)
        elif name in names:
            if name not in DESCRIBED_BY_PYTHON:
                self._follow(name, names[name], attributes)
        elif name in ("eval", "exec", "globals"):
            self._put("module of", self._where)
            self._add_named(names)
        elif name == "__import__":
            raise UnidentifiedError(f"an import by a computed name, in {self._where}")

    def _follow(self, name: str, value: Any, attributes: tuple[str, ...]) -> None:
        """Add what a name stands for; of a module of the user's own, what is taken of it."""
        if value is importlib.import_module or (
            value is importlib and attributes[:1] == ("import_module",)
        ):
            raise UnidentifiedError(f"an import by a computed name, in {self._where}")
        if value is torch and attributes[:1] == ("ops",) and attributes[1:2] != ("aten",):
            raise UnidentifiedError(f"torch.{'.'.join(attributes)}, in {self._where}")
        for attribute in attributes:
            if not isinstance(value, ModuleType) or not is_own(value.__name__):
                break
            if attribute not in vars(value):
                break
            name, value = f"{name}.{attribute}", vars(value)[attribute]
        self._put("name", name)
        self._add(value)

    def _import(self, each: Import, package: str) -> None:
        """Add what code imports when it runs."""
        try:
            name = resolve_name("." * each.level + each.module, package)
        except ImportError:
            return
        module = sys.modules.get(name)
        if module is None:  # its import waits for later steps, or never comes
            file = own_file(name)
            self._put("import", name, file.read_bytes() if file else "")
        elif not each.names or "*" in each.names or not is_own(name):
            self._follow(name, module, ())
        else:
            for one in each.names:
                self._follow(name, module, (one,))

    def _describe_module(self, module: ModuleType) -> None:
        name = module.__name__
        if not is_own(name):
            self._add_installed(name, "")
            return
        self._where, self._root = name, root_of(name)
        self._put("module")
        self._add_extension(name)
        self._add_named(vars(module))

    def _add_extension(self, module: str) -> None:
        """Add the file of a module of the user's own that is not written in Python."""
        file = file_of(module)
        if file is not None and not file.endswith(".py"):
            with open(file, "rb") as opened:
                self._put("file", hashlib.file_digest(opened, "sha256").hexdigest())

    def _describe_class(self, cls: type) -> None:
        if not is_own(cls.__module__) and (_is_static(cls) or _importable(cls)):
            self._add_installed(cls.__module__, cls.__qualname__)
            self._add_named({name: each for name, each in vars(cls).items() if _patched(each)})
            return
        if is_own(cls.__module__):
            self._where, self._root = cls.__qualname__, root_of(cls.__module__)
            self._add_extension(cls.__module__)
        else:
            self.installed.add(cls.__module__)
        self._put("class", cls.__qualname__)
        self._add((type(cls), cls.__bases__))
        self._add_named(_members(cls))

    # Values

    def _describe_instance(self, value: Any) -> None:
        """Add what pickle takes of it."""
        if type(value).__module__.startswith("triton.runtime") and hasattr(value, "fn"):
            self._add((type(value), value.fn, getattr(value, "configs", None)))  # a kernel
            return
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            found = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception as error:  # its class may refuse in any way
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise UnidentifiedError(f"an object of {kind}, in {self._where}") from error
        self._put("instance")
        if isinstance(found, tuple):
            make, arguments, state, items, entries = (*found, None, None, None)[:5]
            self._add((make, arguments, state, list(items or ()), list(entries or ())))
        else:
            self._describe_global(value, str(found))

    def _describe_global(self, value: Any, name: str) -> None:
        """What pickle takes by its name in a module."""
        module = str(getattr(value, "__module__", None) or type(value).__module__)
        self._add(type(value))
        if is_own(module):
            self._put(name)
            self._add_extension(module)
        else:
            self._add_installed(module, name)
        self._add(getattr(value, "__wrapped__", None))  # functools.cache

    def _describe_tensor(self, tensor: torch.Tensor) -> None:
        self._add((type(tensor), tensor.dtype, tuple(tensor.shape), tensor.requires_grad))
        self._add(getattr(tensor, "__dict__", None))
        if tensor.device.type != "meta":
            try:
                dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
                self._put(dense.reshape(-1).view(torch.uint8).numpy().tobytes())
            except (RuntimeError, TypeError) as error:
                kind = f"a tensor of layout {tensor.layout} and dtype {tensor.dtype}"
                raise UnidentifiedError(f"{kind}, in {self._where}") from error

    def _describe_property(self, value: property) -> None:
        self._add((type(value), value.fget, value.fset, value.fdel))

    def _describe_method(self, value: Any) -> None:
        """A bound method, or the descriptor of a class method or a static one."""
        self._add((type(value), value.__func__, getattr(value, "__self__", None)))

    def _describe_slot(self, value: Any) -> None:
        self._put("slot", value.__name__)

    def _describe_live(self, value: Any) -> None:
        self._put("live")
        self._add(type(value))


HANDLERS: list[tuple[Any, Callable[[Content, Any], None]]] = [
    (FunctionType, Content._describe_function),
    (type, Content._describe_class),
    (ModuleType, Content._describe_module),
    (torch.Tensor, Content._describe_tensor),
    (property, Content._describe_property),
    ((MethodType, classmethod, staticmethod), Content._describe_method),
    ((GetSetDescriptorType, MemberDescriptorType), Content._describe_slot),
    (CodeType, Content._describe_code),
    (CellType, lambda content, cell: content._add(cell.cell_contents)),
    (MappingProxyType, lambda content, proxy: content._add(dict(proxy))),
    (LIVE, Content._describe_live),
]


def _closed_over(function: FunctionType) -> dict[str, Any]:
    """What a function closes over, by name."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the cell is empty yet
            found[name] = cell.cell_contents
    return found


def _members(cls: type) -> dict[str, Any]:
    """Members of a class as it was defined.

    Making the first optimizer of a class makes torch wrap its `step`, or that of a base that was
    not wrapped yet, in place.
    """
    found = {}
    for name, value in vars(cls).items():
        original = getattr(value, "__wrapped__", None) if hasattr(value, "hooked") else None
        inherited = [vars(base).get(name) for base in cls.__mro__[1:]]
        if original is None:
            found[name] = value
        elif all(original not in (each, getattr(each, "__wrapped__", None)) for each in inherited):
            found[name] = original
    return found


def _patched(member: Any) -> bool:
    """Whether a member of an installed class is the user's own function."""
    return isinstance(member, FunctionType) and is_own(str(member.__globals__.get("__name__", "")))


def _is_static(cls: type) -> bool:
    """Whether a class is part of an extension, and was not made by a `class` statement or a call."""
    return not cls.__flags__ & HEAP_TYPE


def _importable(cls: type) -> bool:
    """Whether a class stands in its module under its name."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls
