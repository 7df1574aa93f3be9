"""From the arguments of a public function to those of the passes."""

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from memsolve_kernels.modes import is_distributed
from memsolve_kernels.softmax.checks import Arguments, check_all_items, check_arguments
from memsolve_kernels.softmax.options import LossOptions, append_bias, divide_by_temperature
from memsolve_kernels.softmax.partials import Bias

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Call(NamedTuple):
    """Checked arguments of the passes, with queries that are divided by the temperature.

    Attributes:
        queries: (B, d), zero where ignored; with a bias, d is larger.
        outputs: (N, d), or this rank's (N_r, d).
        targets: (B,), zero where ignored.
        weights: (B,), zero where ignored, or None.
        ignored: (B,), which queries are ignored, or None.
        bias: among the outputs, or None.
        options: without temperature and bias.
        backend: name, or `group.Sharded`.
        precision: of the backend.
    """

    queries: Tensor
    outputs: Tensor
    targets: Tensor
    weights: Tensor | None
    ignored: Tensor | None
    bias: Bias | None
    options: LossOptions
    backend: Any
    precision: str | None


def prepare(arguments: Arguments, group: "ProcessGroup | None") -> Call:
    """Check the arguments, on all ranks of a group, and prepare their passes.

    Raises:
        InputError: a subclass, with the invalid argument and the reason.
    """
    arguments, backend = check(arguments, group)
    _, queries, outputs, targets, weights, _, ignore_index, *_ = arguments
    ignored = None if ignore_index is None else targets.long() == ignore_index
    if ignored is not None:
        queries, targets = queries.masked_fill(ignored[:, None], 0), targets.masked_fill(ignored, 0)
        weights = None if weights is None else weights.masked_fill(ignored, 0)
    options, queries = divide_by_temperature(arguments.options, queries)
    bias = None
    if options.bias is not None:
        bias = Bias(options.bias, column=queries.shape[1])
        queries, outputs = append_bias(options.bias, queries, outputs)
        options = options._replace(bias=None)
    inputs = queries, outputs, targets, weights, ignored
    return Call(*inputs, bias, options, backend, arguments.precision)


def check(arguments: Arguments, group: "ProcessGroup | None") -> tuple[Arguments, Any]:
    """The arguments with one dimension of queries and this rank's outputs, and their backend.

    The backend is its name, or `group.Sharded`.
    """
    if group is None and not is_distributed(arguments.outputs):
        arguments = check_arguments(arguments)
        check_all_items(arguments, arguments.outputs.shape[0])
        return arguments, arguments.backend
    from memsolve_kernels.softmax.group import share

    return share(arguments, group)
