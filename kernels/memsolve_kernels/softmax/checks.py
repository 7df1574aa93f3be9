"""Validation of the arguments of the softmax functions.

Shapes, dtypes and devices are checked once in the public functions, on fake tensors too. Values
are checked inside the operators, where they are real even under torch.compile, and only on a CPU:
reading them from a GPU would stall its queue in every call. The weights do not enter any operator.
"""

from typing import Literal, NamedTuple, get_args

from torch import Tensor

from memsolve_kernels.dispatch import BackendName, Precision, check_backend, check_precision
from memsolve_kernels.errors import DtypeError, InputError, RangeError, ShapeError
from memsolve_kernels.modes import is_readable
from memsolve_kernels.softmax.options import LossOptions, check_class_weights, check_options
from memsolve_kernels.softmax.tensor_checks import (
    FLOATS,
    INTEGERS,
    check_dense,
    check_device,
    check_dtype,
    check_finite,
    names,
)

Reduction = Literal["weighted", "none"]


class Arguments(NamedTuple):
    """The arguments of a call of a public function.

    Attributes:
        function: its name.
        queries: (B, d), or (..., d) before the checks.
        outputs: (N, d); where they are sharded, this rank's (N_r, d), or a DTensor.
        targets: (B,), or (...).
        weights: (B,), or (...).
        directions: (B, d), or (..., d).
        ignore_index: target value of ignored queries.
        reduction: of the losses.
        backend: name, or None.
        precision: of the backend.
        options: of the loss.
    """

    function: str
    queries: Tensor
    outputs: Tensor
    targets: Tensor
    weights: Tensor | None = None
    directions: Tensor | None = None
    ignore_index: int | None = None
    reduction: Reduction = "weighted"
    backend: BackendName | None = None
    precision: Precision | None = None
    options: LossOptions = LossOptions()


def check_arguments(arguments: Arguments, *, min_items: int = 1) -> Arguments:
    """The arguments with one dimension of queries.

    Raises:
        InputError: a subclass: an unknown backend or precision, tensors that do not fit together,
            fewer items than `min_items`, or another option that is invalid.
    """
    _, queries, outputs, targets, weights, directions, _, reduction, *_ = arguments
    check_backend(arguments.backend)
    check_precision(arguments.precision)
    check_inputs(queries, outputs, targets, weights, directions, min_items=min_items)
    check_reduction(reduction, weights)
    check_options(arguments.options, queries, outputs.shape[0])
    return _flatten(arguments) if queries.ndim > 2 else arguments


def check_all_items(arguments: Arguments, num_items: int) -> None:
    """Raise an InputError unless what belongs to all `num_items`, in a group too, fits them."""
    check_class_weights(arguments.options.class_weights, arguments.queries, num_items)


def _flatten(arguments: Arguments) -> Arguments:
    """Valid arguments with one dimension of queries."""
    _, queries, _, targets, weights, directions, *_ = arguments
    shape = targets.numel(), queries.shape[-1]
    return arguments._replace(
        queries=queries.reshape(shape),
        targets=targets.reshape(-1),
        weights=None if weights is None else weights.reshape(-1),
        directions=None if directions is None else directions.reshape(shape),
    )


def check_inputs(
    queries: Tensor,
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    directions: Tensor | None = None,
    *,
    min_items: int = 1,
) -> None:
    """Raise unless the arguments of a public function are compatible.

    Args:
        queries: (..., d).
        outputs: (N, d), of the queries' dtype.
        targets: (...), integers.
        weights: (...), in the dtype of queries or sums.
        directions: (..., d), of the queries' dtype.
        min_items: smallest N.

    Raises:
        ShapeError: other shapes, too few items, or no dimensions.
        DtypeError: not a dense tensor, an unsupported dtype, or dtypes that differ.
        DeviceError: tensors on different devices.
    """
    check_dense(queries=queries, outputs=outputs, targets=targets)
    _check_items(queries, outputs, targets, min_items)
    if directions is not None:
        check_dense(directions=directions)
        _check_directions(queries, directions)
    if weights is not None:
        check_dense(weights=weights)
        _check_weights(queries, weights)


def check_reduction(reduction: Reduction, weights: Tensor | None) -> None:
    """Raise InputError unless `reduction` is valid, and uses the weights if there are any."""
    if reduction not in get_args(Reduction):
        raise InputError(
            f"reduction is {reduction!r}; expected 'weighted', which is the mean unless weights "
            "say otherwise (ones give the sum), or 'none'"
        )
    if reduction == "none" and weights is not None:
        raise InputError(
            "reduction='none' takes no weights: multiply the losses that it returns by them"
        )


def check_values(targets: Tensor, num_items: int, *, wait: bool, **tensors: Tensor) -> None:
    """Raise if a tensor on a CPU is not finite, or a target is outside [0, num_items).

    Targets on a GPU are read only if the call may `wait` for the device.

    Raises:
        NonFiniteError: NaN or infinity.
        RangeError: a target outside [0, num_items).
    """
    check_finite(**tensors)
    if not (wait or is_readable(targets)):
        return
    if targets.shape[0] == 0:
        return
    smallest, largest = targets.aminmax()
    if int(smallest) < 0 or int(largest) >= num_items:
        wrong = ((targets < 0) | (targets >= num_items)).nonzero()
        row = int(wrong[0])
        raise RangeError(
            f"targets[{row}] is {int(targets[row])}; expected an item in [0, {num_items}) "
            f"({wrong.shape[0]} of {targets.shape[0]} are outside)"
        )


def _check_items(queries: Tensor, outputs: Tensor, targets: Tensor, min_items: int) -> None:
    if queries.ndim < 2 or outputs.ndim != 2:
        raise ShapeError(
            "expected queries (B, d), outputs (N, d) and targets (B,), or several dimensions of "
            "queries and as many of targets and weights, got "
            f"{_shape(queries)}, {_shape(outputs)} and {_shape(targets)}"
        )
    if outputs.shape[0] < min_items or outputs.shape[1] == 0:
        raise ShapeError(f"outputs (N, d) must have an item and a dimension, got {_shape(outputs)}")
    if queries.shape[-1] != outputs.shape[1]:
        raise ShapeError(
            f"queries {_shape(queries)} and outputs {_shape(outputs)} must have the same last "
            "dimension d"
        )
    if targets.shape != queries.shape[:-1]:
        raise ShapeError(
            f"targets {_shape(targets)} must hold one item for each of the queries "
            f"{_shape(queries)}: expected {tuple(queries.shape[:-1])}"
        )
    if queries.dtype not in FLOATS or outputs.dtype != queries.dtype:
        raise DtypeError(
            f"queries and outputs must share one of {names(FLOATS)}, got {queries.dtype} and "
            f"{outputs.dtype}"
        )
    if targets.dtype not in INTEGERS:
        raise DtypeError(f"targets must be one of {names(INTEGERS)}, got {targets.dtype}")
    check_device(queries, outputs=outputs, targets=targets)


def _check_weights(queries: Tensor, weights: Tensor) -> None:
    if weights.shape != queries.shape[:-1]:
        raise ShapeError(
            f"weights {_shape(weights)} must hold one number for each of the queries "
            f"{_shape(queries)}: expected {tuple(queries.shape[:-1])}"
        )
    check_dtype(queries, weights=weights)
    check_device(queries, weights=weights)


def _check_directions(queries: Tensor, directions: Tensor) -> None:
    if directions.shape != queries.shape:
        raise ShapeError(
            f"directions {_shape(directions)} must have the shape of queries {_shape(queries)}"
        )
    if directions.dtype != queries.dtype:
        raise DtypeError(f"directions must be {queries.dtype} like queries, got {directions.dtype}")
    check_device(queries, directions=directions)


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
