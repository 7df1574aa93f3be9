"""The source of an optimizer: the files of its local modules."""

import ast
import re
import sys
from collections.abc import Container, Iterator
from importlib.util import find_spec, resolve_name
from pathlib import Path

from memsolve_kernels.errors import InputError

import memsolve
from memsolve.importing import FOLDER
from memsolve.optimizers.construct import WRAPPED
from memsolve.optimizers.identity.origin import BY_VERSION, own_file
from memsolve.optimizers.registry import BUILT_IN, load_named, parse
from memsolve.study.leaderboard.grid import DEFAULTS

EXAMPLES = "memsolve.examples."
"""Modules of memsolve whose text a record holds, but for those of packages; the others count by
memsolve's version."""

PACKAGES = "torch.optim.", "memsolve.", "pytorch_optimizer."
"""Packages whose optimizers run without `--trust`."""

FILE = re.compile(r"(?:[^\W\d]\w*/)*[^\W\d]\w*\.py")
"""The path of a module's file."""


def read_files(optimizer: str) -> dict[str, list[str]]:
    """Lines of the files of an optimizer's local modules, by path, in the order of paths.

    Local are modules outside of Python and of installed distributions. A module that another one
    imports anywhere belongs to it. The optimizer is imported.

    Raises:
        OptimizerError: it does not import.
    """
    load_named(optimizer)
    files: dict[str, list[str]] = {}
    waiting = list(_root_modules(optimizer))
    reached: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        waiting += _packages(module)
        if (file := _file_of(module)) is not None:
            text = file.read_text(encoding="utf-8")
            files[_path_of(module, file)] = text.splitlines()
            waiting += _imported_modules(module, file, text)
    return dict(sorted(files.items()))


def differing_files(files: dict[str, list[str]]) -> dict[str, str]:
    """How the code here differs from the lines of files, by path; empty if it is the same.

    Comments, layout and docstrings do not count.
    """
    differences = {}
    for path, lines in files.items():
        here = _find_here(path)
        if here is None:
            differences[path] = "not found here"
        elif not _same_code("\n".join(lines), here.read_text(encoding="utf-8")):
            differences[path] = "different code here"
    return differences


def is_known(optimizer: str, files: Container[str]) -> bool:
    """Whether an optimizer, and all that it wraps, is built in, of `PACKAGES`, or in files.

    A name may call anything that can be imported.

    Args:
        optimizer: its name.
        files: paths of modules.
    """
    path, settings = parse(optimizer.removesuffix(DEFAULTS))
    module = path.replace(":", ".").rpartition(".")[0].replace(".", "/")
    is_in_files = f"{module}.py" in files or f"{module}/__init__.py" in files
    wrapped = [settings[name] for name in WRAPPED if isinstance(settings.get(name), str)]
    known = path in BUILT_IN or path.startswith(PACKAGES) or is_in_files
    return known and all(is_known(each, files) for each in wrapped)


def write_files(files: dict[str, list[str]], folder: Path) -> None:
    """Write the files of a record below a folder.

    Raises:
        InputError: a path that is no module's.
    """
    for path, lines in files.items():
        if not FILE.fullmatch(path):
            raise InputError(f"the record holds a file {path!r}; expected the path of a module")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _root_modules(optimizer: str) -> Iterator[str]:
    """The modules of an optimizer and of those that it wraps: by name, and where it is defined."""
    path, settings = parse(optimizer)
    if path not in BUILT_IN:
        yield path.replace(":", ".").rpartition(".")[0]
        yield str(getattr(load_named(optimizer)[0], "__module__", ""))
    for name in WRAPPED:
        if isinstance(settings.get(name), str):
            yield from _root_modules(settings[name])


def _packages(module: str) -> list[str]:
    """The packages that hold a module."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _file_of(module: str) -> Path | None:
    """The file of a local module that is written in Python, or of an example of memsolve."""
    if module.partition(".")[0] not in BY_VERSION:
        file = own_file(module)
    elif module.startswith(EXAMPLES):
        file = _example(module)
    else:
        return None
    return file if file is not None and file.suffix == ".py" else None


def _example(module: str) -> Path | None:
    """The file of a module of memsolve's examples; None for a package."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # a name in a module
        return None
    if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
        return None
    return Path(spec.origin)


def _path_of(module: str, file: Path) -> str:
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if file.stem == "__init__" else f"{path}.py"


def _imported_modules(module: str, file: Path, text: str) -> Iterator[str]:
    """The modules that a module's text may import, and names in them that may be modules."""
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            try:
                origin = resolve_name(name, package)
            except ImportError:  # as it will be when it runs
                continue
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _find_here(path: str) -> Path | None:
    """The file of a path on the module path, or in the current folder of the command."""
    folders = [str(Path(memsolve.__file__).parents[1]), *sys.path, FOLDER.get()]
    paths = [Path(folder, path) for folder in folders if folder]
    return next((each for each in paths if each.is_file()), None)


def _same_code(text: str, other: str) -> bool:
    try:
        return _normalized(text) == _normalized(other)
    except SyntaxError:
        return text == other


def _normalized(text: str) -> str:
    """The syntax tree of a text without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)
