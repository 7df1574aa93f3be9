"""Functions of other libraries under one signature; each raises Unsupported where it cannot run."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_cudnn_attention, can_use_flash_attention
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.registry import Inputs, Prepare, Run, Unsupported

Attend = Callable[[], Tensor]
Attention = Callable[[Tensor, Tensor], Attend]
Loss = Callable[..., Tensor]

CHUNK = 512  # rows: of 128 to 1024, the quickest or near it on a CPU: see NOTES.md


def sdpa(queries: Tensor, outputs: Tensor) -> Attend:
    """Attention of one head with shared keys and values, by the backend that torch chooses."""
    query, shared = queries[None, None], outputs[None, None]

    def attend() -> Tensor:
        average = functional.scaled_dot_product_attention(query, shared, shared, scale=1.0)
        return average[0, 0]

    return attend


def sdpa_by(backend: SDPBackend, usable: Callable[[SDPAParams], bool]) -> Attention:
    """The same by one backend alone, where torch says that it is usable."""

    def prepare(queries: Tensor, outputs: Tensor) -> Attend:
        if not queries.is_cuda:
            raise Unsupported(f"torch's {backend.name} needs a GPU")
        shared = outputs[None, None]
        params = SDPAParams(queries[None, None], shared, shared, None, 0.0, False, False)
        attend = sdpa(queries, outputs)
        with sdpa_kernel(backend):
            if not usable(params):
                kind = f"{queries.dtype} with d = {queries.shape[1]}"
                raise Unsupported(f"torch's {backend.name} does not support {kind} on this GPU")

        def run() -> Tensor:
            with sdpa_kernel(backend):
                return attend()

        return run

    return prepare


flash = sdpa_by(SDPBackend.FLASH_ATTENTION, can_use_flash_attention)
cudnn = sdpa_by(SDPBackend.CUDNN_ATTENTION, can_use_cudnn_attention)


def linear_cross_entropy(device: torch.device) -> Loss:
    """Torch's fused loss as it is called by default: through all logits."""
    if not hasattr(functional, "linear_cross_entropy"):
        raise Unsupported(f"torch {torch.__version__} has no linear_cross_entropy")
    loss: Loss = functional.linear_cross_entropy
    return loss


def chunked_linear_cross_entropy(device: torch.device) -> Loss:
    """The same in chunks of the batch, which save the memory of the logits."""
    loss = linear_cross_entropy(device)
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK, chunking_method=None)
    return partial(loss, options=options)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile`, which compiles at the first call.

    Torch counts the compilations of a function's code over all cases, and beyond a limit runs it
    uncompiled; so this resets the count. A function that cannot be compiled entirely fails.
    """
    torch.compiler.reset()
    compiled_function: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True)
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


def graphed(prepare: Prepare) -> Prepare:
    """The same run captured in a CUDA graph, without the launches."""

    def capture(inputs: Any) -> Run:
        if not torch.cuda.is_available() or not _on_cuda(inputs):
            raise Unsupported("CUDA graphs need a GPU")
        run = prepare(inputs)
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


def count_flops(prepare: Prepare) -> Callable[[Inputs], float]:
    """Flops of an implementation's matrix products, counted by torch while it runs."""

    def count(inputs: Inputs) -> float:
        run = prepare(inputs)
        with FlopCounterMode(display=False) as counter:
            run()
        return float(counter.get_total_flops())

    return count


def _optional(module: str, distribution: str, device: torch.device) -> ModuleType:
    try:
        package = import_module(module)
    except ImportError as error:
        raise Unsupported(f"{distribution} is not installed") from error
    if device.type != "cuda":
        raise Unsupported(f"{distribution} needs a GPU")
    return package


def _on_cuda(inputs: Any) -> bool:
    return any(value.is_cuda for value in inputs if isinstance(value, Tensor))
