"""The bytecode of functions: their operations, and the names that they look up.

Bytecode is what runs, even if the file was edited since it was imported. Comments, positions, file
names and docstrings are left out: an edit of those changes no result.
"""

import dis
import inspect
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
CLOSED_OVER = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")

NEUTRAL = {"CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL", "RESUME"}
"""Instructions that change no value."""

UNUSED = {"__doc__", "__firstlineno__", "__static_attributes__"}
"""Names under which the body of a class stores parts of its source."""

HAS_DOCSTRING: int = getattr(inspect, "CO_HAS_DOCSTRING", 0x4000000)


class Lookup(NamedTuple):
    """A name that code looks up, with the chain of attributes that follows it."""

    name: str
    attributes: tuple[str, ...]


class Import(NamedTuple):
    """A module that code imports when it runs: `level` as in `importlib`, and names from it."""

    module: str
    level: int
    names: tuple[str, ...]


class Bytecode(NamedTuple):
    """The operations of a code object.

    Attributes:
        head: counts and names of its arguments and variables, flags, and exception table.
        steps: name and argument of each instruction; the argument may be any constant.
        lookups: names that it, or code nested in it, looks up.
        imports: modules that they import.
    """

    head: tuple[Any, ...]
    steps: tuple[tuple[str, Any], ...]
    lookups: tuple[Lookup, ...]
    imports: tuple[Import, ...]


@lru_cache(4096)
def bytecode(code: CodeType) -> Bytecode:
    """The operations of a code object, without positions, docstrings and file names."""
    instructions = [each for each in dis.get_instructions(code) if each.opname not in NEUTRAL]
    head = (
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        (code.co_varnames, code.co_cellvars, code.co_freevars),
        code.co_flags & ~HAS_DOCSTRING,
        code.co_exceptiontable,
    )
    lookups, imports = list(_lookups(instructions)), list(_imports(instructions))
    for nested in code.co_consts:
        if isinstance(nested, CodeType):
            inner = bytecode(nested)
            lookups += inner.lookups
            imports += inner.imports
    unique = tuple(dict.fromkeys(lookups)), tuple(dict.fromkeys(imports))
    return Bytecode(head, tuple(_steps(instructions)), *unique)


def _steps(instructions: list[dis.Instruction]) -> Iterator[tuple[str, Any]]:
    named = {*dis.hasconst, *dis.hasname, *dis.hasfree, *dis.hascompare}
    for each, following in zip(instructions, [*instructions[1:], None], strict=True):
        if _unused(each) or (following is not None and _unused(following)):
            continue  # a constant, and where it is stored
        yield each.opname, each.argval if each.opcode in named else each.arg


def _unused(instruction: dis.Instruction) -> bool:
    return instruction.opname == "STORE_NAME" and instruction.argval in UNUSED


def _lookups(instructions: list[dis.Instruction]) -> Iterator[Lookup]:
    for index, each in enumerate(instructions):
        if each.opname in GLOBALS + CLOSED_OVER:
            attributes = []
            for following in instructions[index + 1 :]:
                if following.opname not in ATTRIBUTES:
                    break
                attributes.append(str(following.argval))
            yield Lookup(str(each.argval), tuple(attributes))


def _imports(instructions: list[dis.Instruction]) -> Iterator[Import]:
    for index, each in enumerate(instructions):
        if each.opname == "IMPORT_NAME":
            level, names = (before.argval for before in instructions[index - 2 : index])
            yield Import(str(each.argval), int(level), tuple(names or ()))
