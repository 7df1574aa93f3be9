"""Functions with decorators of `torch.compiler`, which load `torch._dynamo` (seconds of CPU time).

Import this module inside functions only, where a compiler is active.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch._C._functorch import TransformType, get_interpreter_stack

Result = TypeVar("Result")


@torch.compiler.disable  # type: ignore[untyped-decorator]
def call_untraced(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call a function that compilers must not trace."""
    return function(*args, **kwargs)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # graphs have a guard
def is_forward_mode() -> bool:
    """Whether a transform of `torch.func` differentiates in forward mode."""
    return any(each.key() == TransformType.Jvp for each in get_interpreter_stack() or [])
