"""Small modules that hold an optimizer, each with one edit: see data/identity_edits.txt."""

import re
from pathlib import Path

HEAD = """
import collections, contextlib, dataclasses, decimal, enum, functools, re, types
import numpy as np
import pytest
import torch
from torch.optim import SGD
"""

MAKE = """
if "make" not in globals():
    def make(params):
        return Mine(params)
"""


def cases(name: str) -> dict[str, str]:
    """Cases by title, as they are written."""
    text = (Path(__file__).parent / "data" / name).read_text()
    _, *parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def files(case: str, *, edited: bool = False) -> dict[str, str]:
    """The text of every file, before or after the edit."""
    text = re.sub(r"\[\[(.*?)\|(.*?)\]\]", r"\2" if edited else r"\1", case, flags=re.DOTALL)
    main, *others = re.split(r"^# in (\S+)\n", text, flags=re.MULTILINE)
    return {"opt.py": HEAD + main + MAKE, **dict(zip(others[::2], others[1::2], strict=True))}
