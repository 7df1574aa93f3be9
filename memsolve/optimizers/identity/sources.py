"""The files of modules that code imports in a step, and that are not loaded yet."""

import ast
from collections import deque
from collections.abc import Iterable, Iterator
from importlib.util import resolve_name

from memsolve.optimizers.identity.origin import KERNELS, own_file


def own_sources(modules: Iterable[str]) -> dict[str, bytes]:
    """The files of modules of the user's own, and of those that they import in turn, by module.

    The packages that hold a module belong to it. Nothing is imported, and the kernels are left out.

    Args:
        modules: names of modules, or of what they hold, which are skipped.
    """
    sources: dict[str, bytes] = {}
    waiting, seen = deque(modules), set[str]()
    while waiting:
        name = waiting.popleft()
        if name in seen or name.partition(".")[0] == KERNELS:
            continue
        seen.add(name)
        if package := name.rpartition(".")[0]:
            waiting.append(package)
        if (file := own_file(name)) is not None:
            sources[name] = file.read_bytes()
            if file.suffix == ".py":
                holder = name if file.stem == "__init__" else package
                waiting += imported_names(sources[name], holder)
    return sources


def imported_names(source: bytes, package: str) -> Iterator[str]:
    """What a module imports anywhere in its text: modules, and names that may be modules.

    Args:
        source: its text.
        package: that relative imports start from.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue  # as it will be when it runs
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
