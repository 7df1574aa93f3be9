"""The parts of an object, by its kind."""

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
from memsolve.optimizers.identity.parts import Part, Value

DESCRIBERS: list[tuple[Any, Callable[[Any], list[Part]]]] = [
    (FunctionType, definitions.describe_function),
    (type, definitions.describe_class),
    (ModuleType, definitions.describe_module),
    (CodeType, definitions.describe_code),
    (torch.Tensor, values.describe_tensor),
    (property, values.describe_property),
    ((MethodType, classmethod, staticmethod), values.describe_method),
    ((GetSetDescriptorType, MemberDescriptorType), values.describe_slot),
    (CellType, lambda cell: [Value(cell.cell_contents)]),
    (MappingProxyType, lambda proxy: [Value(dict(proxy))]),
    (values.LIVE, values.describe_live),
]


def describe(value: Any) -> list[Part]:
    """The parts of an object; a `Refusal` among them if it has no comparable content."""
    if type(value).__module__.startswith("triton.runtime") and hasattr(value, "fn"):
        return values.describe_kernel(value)
    for kinds, describer in DESCRIBERS:
        if isinstance(value, kinds):
            return describer(value)
    return values.describe_instance(value)
