"""A digest of values by their content, whatever holds or names them.

No library serves. `joblib.hash` and pickle take functions and classes by name, and joblib's digest
depends on which equal values are one object. Cloudpickle's bytes are not deterministic, as its
authors say: file names, line numbers and the order of sets are in them.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, NoReturn

import torch

from memsolve.optimizers.identity.origin import sources

PLAIN = {
    *(bool, int, float, complex, bytes, type(None), type(...), type(NotImplemented), range),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.finfo, torch.iinfo),
}
"""Types whose `repr` is the whole value."""

SET_BY_PYTHON = {
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__doc__", "__dict__", "__weakref__", "__module__", "__firstlineno__"),
    *("__static_attributes__", "__slotnames__", "_abc_impl"),
    *("__builtins__", "__cached__", "__file__", "__loader__", "__name__", "__package__"),
    *("__path__", "__spec__", "__warningregistry__"),
}
"""Members of classes and modules that say where they were defined, or cache something."""

MOST = 100_000
"""Objects that are described for one optimizer, and no more: some make new ones without end."""


class UnidentifiedError(Exception):
    """A value without a content that could be compared; the message says what and where."""


class Content:
    """What values are made of.

    Objects are numbered in the order in which they are reached, so that cycles end, and described
    one after another.

    Args:
        describe: adds what an object is made of, unless it is plain, a str, path or builtin
            container.
        within: the sets, by `id`, that hold what is described: a set is described by the digests
            of its members, which may hold the set in turn.

    Attributes:
        installed: names of the installed modules that have been reached.
    """

    def __init__(
        self,
        describe: Callable[["Content", Any], None],
        within: frozenset[int] = frozenset(),
    ) -> None:
        self.installed: set[str] = set()
        self._hash = hashlib.sha256()
        self._numbers: dict[int, int] = {}
        self._reached: list[Any] = []  # keeps them alive: the `id` of what is gone is given again
        self._waiting: deque[tuple[Any, str, str | None]] = deque()
        self._describe_object = describe
        self._within = within
        self._where = "the factory"
        self._root: str | None = None

    def digest(self, *values: Any) -> str:
        """The digest of values in their order, as hexadecimal digits.

        Raises:
            UnidentifiedError: one of them holds what cannot be identified.
        """
        try:
            self.add(values)
            while self._waiting:
                value, self._where, self._root = self._waiting.popleft()
                self._describe(value)
        except RecursionError:
            self.refuse("values nested too deeply")
        return self._hash.hexdigest()[:16]

    def refuse(self, what: str) -> NoReturn:
        """Give up.

        Args:
            what: cannot be identified.

        Raises:
            UnidentifiedError: always; says where it was met.
        """
        raise UnidentifiedError(f"{what}, in {self._where}")

    def enter(self, where: str, root: str | None) -> None:
        """Say which definition comes next.

        Args:
            where: its name.
            root: the folder that its module is imported from, which is left out of texts and paths.
        """
        self._where, self._root = where, root

    def put(self, *texts: object) -> None:
        """Add texts or bytes."""
        for text in texts:
            data = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
            self._hash.update(b"%d:" % len(data) + data)

    def add(self, value: Any) -> None:
        """Add a value: at once if nothing can change it, else by number, to be described later."""
        kind = type(value)
        if kind in PLAIN:
            self.put(kind.__name__, repr(value))
        elif kind is str or isinstance(value, PurePath):
            text = str(value)
            self.put(kind.__name__, text.replace(self._root, "~") if self._root else text)
        elif kind is tuple:
            self.put("tuple", len(value))
            for each in value:
                self.add(each)
        elif kind in (set, frozenset):
            self._add_set(value)
        elif id(value) in self._numbers:
            self.put("again", self._numbers[id(value)])
        else:
            self._number(value)

    def add_members(self, members: Mapping[str, Any]) -> None:
        """Add members of a class, module or function, in the order of their names."""
        for name, value in sorted(members.items()):
            if name not in SET_BY_PYTHON:
                self.put("member", name)
                self.add(value)

    def add_installed(self, module: str, name: str) -> None:
        """Add what an installed module calls by a name."""
        self.put("installed", module, name, sources(module))
        self.installed.add(module)

    def _number(self, value: Any) -> None:
        if len(self._reached) == MOST:
            self.refuse(f"more than {MOST} objects")
        self._numbers[id(value)] = len(self._reached)
        self.put("new", len(self._reached))
        self._reached.append(value)
        self._waiting.append((value, self._where, self._root))

    def _add_set(self, value: Iterable[Any]) -> None:
        if id(value) in self._within:
            self.put("this set")
            return
        found = []
        for each in value:
            inner = Content(self._describe_object, self._within | {id(value)})
            inner.enter(self._where, self._root)
            found.append(inner.digest(each))
            self.installed |= inner.installed
        self.put(type(value).__name__, len(found), *sorted(found))

    def _describe(self, value: Any) -> None:
        if type(value) in (list, dict):
            self.put(type(value).__name__, len(value))
            for each in value.items() if isinstance(value, dict) else value:
                self.add(each)
        else:
            self._describe_object(self, value)
