"""A digest of values by their content, whatever holds or names them.

No library serves. `joblib.hash` and pickle take functions and classes by name, and joblib's digest
depends on which equal values are one object. Cloudpickle's bytes are not deterministic, as its
authors say: they hold file names, line numbers and the order of sets.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any, NoReturn

import torch

from memsolve.optimizers.identity.origin import kernels_digest
from memsolve.optimizers.identity.parts import Definition, Installed, Part, Refusal, Value

LITERALS = {
    *(bool, int, float, complex, bytes, type(None), type(...), type(NotImplemented), range),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.finfo, torch.iinfo),
}
"""Types whose `repr` is the whole value."""

MAX_OBJECTS = 100_000
"""Objects that are described for one optimizer; some objects make new ones without end."""


class UnidentifiedError(Exception):
    """A value without comparable content; the message says what and where."""


class Content:
    """The content of values, as a digest.

    Objects are numbered in the order in which they are reached, so that cycles end, and described
    one after another.

    Args:
        describe: the parts of an object, unless it is a literal, str, path or builtin container.
        within: the sets, by `id`, that hold the values. A set is described by the digests of its
            members, which may hold the set in turn.

    Attributes:
        installed: names of the installed modules that have been reached.
    """

    def __init__(
        self, describe: Callable[[Any], list[Part]], within: frozenset[int] = frozenset()
    ) -> None:
        self.installed: set[str] = set()
        self._hash = hashlib.sha256()
        self._numbers: dict[int, int] = {}
        self._reached: list[Any] = []  # kept alive, since the `id` of a dead object is used again
        self._waiting: deque[tuple[Any, str, str | None]] = deque()
        self._describe = describe
        self._within = within
        self._where = "the factory"
        self._root: str | None = None

    def digest(self, *values: Any) -> str:
        """The digest of values in their order, as hexadecimal digits.

        Raises:
            UnidentifiedError: one of them holds what cannot be identified.
        """
        self._add_all(values)
        self._put(kernels_digest(self.installed))
        return self._hash.hexdigest()[:16]

    def _add_all(self, values: tuple[Any, ...]) -> None:
        """Add values, and all that they reach."""
        try:
            self._add(values)
            while self._waiting:
                value, self._where, self._root = self._waiting.popleft()
                if type(value) in (list, dict):
                    self._add_container(value)
                else:
                    for part in self._describe(value):
                        self._add_part(part)
        except RecursionError:
            self._refuse("values nested too deeply")

    def _add_part(self, part: Part) -> None:
        if isinstance(part, Value):
            self._add(part.value)
        elif isinstance(part, Installed):
            self._put("installed", part.module, part.name)
            self.installed.add(part.module)
        elif isinstance(part, Definition):
            self._where, self._root = part.name, part.root
        elif isinstance(part, Refusal):
            self._refuse(part.reason)
        else:
            self._put(part)

    def _refuse(self, reason: str) -> NoReturn:
        raise UnidentifiedError(f"{reason}, in {self._where}")

    def _put(self, *texts: object) -> None:
        """Hash texts or bytes."""
        for text in texts:
            data = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
            self._hash.update(b"%d:" % len(data) + data)

    def _add(self, value: Any) -> None:
        """Add a value: at once if it is immutable, else by number, to be described later."""
        kind = type(value)
        if kind in LITERALS:
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
        if len(self._reached) == MAX_OBJECTS:
            self._refuse(f"more than {MAX_OBJECTS} objects")
        self._numbers[id(value)] = len(self._reached)
        self._put("new", len(self._reached))
        self._reached.append(value)
        self._waiting.append((value, self._where, self._root))

    def _add_set(self, value: Iterable[Any]) -> None:
        if id(value) in self._within:
            self._put("this set")
            return
        digests = []
        for each in value:
            inner = Content(self._describe, self._within | {id(value)})
            inner._where, inner._root = self._where, self._root
            inner._add_all((each,))
            digests.append(inner._hash.hexdigest())
            self.installed |= inner.installed
        self._put(type(value).__name__, len(digests), *sorted(digests))

    def _add_container(self, value: list[Any] | dict[Any, Any]) -> None:
        self._put(type(value).__name__, len(value))
        for each in value.items() if isinstance(value, dict) else value:
            self._add(each)
