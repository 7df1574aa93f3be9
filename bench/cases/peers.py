"""Other libraries' functions, brought to one signature; each says why where it cannot run."""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.registry import Run, Unsupported

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def sdpa(queries: Tensor, outputs: Tensor) -> Tensor:
    """Attention of one head with shared keys and values, by the backend that torch chooses."""
    shared = outputs[None, None]
    found = functional.scaled_dot_product_attention(queries[None, None], shared, shared, scale=1.0)
    return found[0, 0]


def flash(queries: Tensor, outputs: Tensor) -> Tensor:
    """The same by the flash backend alone."""
    if not queries.is_cuda or queries.dtype == torch.float32 or queries.shape[1] > 256:
        raise Unsupported("torch's flash backend takes half precision and d <= 256 on a GPU")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return sdpa(queries, outputs)


def linear_cross_entropy() -> Loss:
    """Torch's fused loss, in chunks."""
    if not hasattr(functional, "linear_cross_entropy"):
        raise Unsupported(f"torch {torch.__version__} has no linear_cross_entropy")
    options = torch.nn.LinearCrossEntropyOptions()
    return lambda *arguments: functional.linear_cross_entropy(*arguments, options=options)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile`, which compiles at the first call."""
    compiled_function: Callable[..., Any] = torch.compile(function, dynamic=False)
    return compiled_function


def liger(device: torch.device) -> Loss:
    """Liger's fused loss."""
    liger_kernel = _optional("liger_kernel.transformers.functional", "liger-kernel", device)
    return lambda queries, outputs, targets: liger_kernel.liger_fused_linear_cross_entropy(
        queries, outputs, targets
    )


def cut_cross_entropy(device: torch.device) -> Loss:
    """Apple's Cut Cross-Entropy."""
    package = _optional("cut_cross_entropy", "cut-cross-entropy", device)
    return lambda queries, outputs, targets: package.linear_cross_entropy(queries, outputs, targets)


def graphed(prepare: Callable[[Any], Run]) -> Callable[[Any], Run]:
    """The same run captured in a CUDA graph, which takes the launches out of it."""

    def capture(given: Any) -> Run:
        if not torch.cuda.is_available() or not _on_cuda(given):
            raise Unsupported("CUDA graphs need a GPU")
        run = prepare(given)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run()

        def replay() -> Any:
            graph.replay()
            return result

        return replay

    return capture


def _optional(module: str, distribution: str, device: torch.device) -> ModuleType:
    try:
        found = import_module(module)
    except ImportError as error:
        raise Unsupported(f"{distribution} is not installed") from error
    if device.type != "cuda":
        raise Unsupported(f"{distribution} needs a GPU")
    return found


def _on_cuda(given: Any) -> bool:
    return any(value.is_cuda for value in given if isinstance(value, Tensor))
