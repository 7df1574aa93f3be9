"""How an object of each kind is described."""

from collections.abc import Callable
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

import torch

from memsolve.optimizers.identity import definitions, values
from memsolve.optimizers.identity.content import Content

KINDS: list[tuple[Any, Callable[[Content, Any], None]]] = [
    (FunctionType, definitions.describe_function),
    (type, definitions.describe_class),
    (ModuleType, definitions.describe_module),
    (CodeType, definitions.describe_code),
    (torch.Tensor, values.describe_tensor),
    (property, values.describe_property),
    ((MethodType, classmethod, staticmethod), values.describe_method),
    ((GetSetDescriptorType, MemberDescriptorType), values.describe_slot),
    (CellType, lambda content, cell: content.add(cell.cell_contents)),
    (MappingProxyType, lambda content, proxy: content.add(dict(proxy))),
    (values.LIVE, values.describe_live),
]


def describe(content: Content, value: Any) -> None:
    """Add what an object is made of.

    Raises:
        UnidentifiedError: it has no content that could be compared.
    """
    if type(value).__module__.startswith("triton.runtime") and hasattr(value, "fn"):
        values.describe_kernel(content, value)
        return
    known = (way for kinds, way in KINDS if isinstance(value, kinds))
    next(known, values.describe_instance)(content, value)
