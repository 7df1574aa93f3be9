"""The associative memory: random embeddings, power-law frequencies, loss and gradient."""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from memsolve_kernels import Retrieval, softmax_loss
from memsolve_kernels.errors import DtypeError, RangeError
from torch import Tensor

from memsolve import passes
from memsolve.differentiable import loss_of_parts
from memsolve.embeddings import check_anisotropy
from memsolve.frequencies import Batch, check_at_least_one, draw, power_law
from memsolve.memory_checks import check_batch, check_items
from memsolve.normals import normal_source
from memsolve.recall import Recall, recovered_items
from memsolve.tables import HeldTable, draw_tables, holds_tables, rows_at_once

MOMENT_ROWS = 1 << 14
"""Items at a time in `gradient_moments`, whose products have three factors."""


class Curvature(NamedTuple):
    """The factors of the Hessian at `W = 0`, `H[D] = outputs @ D @ inputs` (derived).

    Attributes:
        outputs: (d, d), covariance of the output embeddings, `C` of the theory.
        inputs: (d, d), weighted second moment of the input embeddings, `A` of the theory.
    """

    outputs: Tensor
    inputs: Tensor


class GradientMoments(NamedTuple):
    """Moments of the gradient `g` of one example, all (d, d).

    Attributes:
        mean: `G = E[g]`.
        left: `E[g g^T]`.
        right: `E[g^T g]`.
    """

    mean: Tensor
    left: Tensor
    right: Tensor


class AssociativeMemory:
    """`N` facts `u_i -> v_i` with frequencies `p_i ~ i^-alpha`, which one matrix stores.

    The model is that of section 2 of arXiv 2603.26554: embeddings are i.i.d. `N(0, I_d / d)`,
    logits are `l_ij = v_j . W u_i`, and the loss is softmax-logistic regression on the item.
    Anisotropic embeddings are i.i.d. `N(0, S)`, where `S` has trace 1, eigenvalues in proportion
    to `j^-kappa`, and random eigenvectors (`memsolve.embeddings`).

    Methods check shapes, dtypes and devices of their arguments always, and values on a CPU only.

    Args:
        num_items: number of facts `N`, at least 1.
        dim: embedding dimension `d`, at least 1.
        alpha: exponent of the frequencies, above 1.
        seed: of the embeddings. The same seed, device type and dtype give the same numbers with
            the same version of torch, on a GPU whatever its size (`memsolve.normals.BlockSource`);
            with another anisotropy, a linear map of them.
        anisotropy: `kappa` of the input embeddings, at least 0; 0 is isotropic.
        output_anisotropy: `kappa` of the output embeddings, likewise.
        device: of the embeddings; default the CPU.
        dtype: of the embeddings, float32 or float64; default float64, because a spectral
            optimizer amplifies rounding in the small singular values of the gradient.
        hold_tables: whether the embeddings are tensors, or drawn again wherever they are used,
            which takes a little more time and no memory. The results have the same bits. Default:
            a rule of their size (`memsolve.tables.holds_tables`).

    Attributes:
        frequencies: (N,) float64 on the CPU, sums to 1, decreasing.

    Raises:
        RangeError: a number out of range.
        DtypeError: a dtype other than float32 and float64.
    """

    def __init__(
        self,
        num_items: int,
        dim: int,
        alpha: float,
        *,
        seed: int,
        anisotropy: float = 0.0,
        output_anisotropy: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        hold_tables: bool | None = None,
    ) -> None:
        check_at_least_one("num_items", num_items)
        check_at_least_one("dim", dim)
        dtype = torch.float64 if dtype is None else dtype
        if dtype not in (torch.float32, torch.float64):
            raise DtypeError(f"dtype is {dtype}; expected torch.float32 or torch.float64")
        self.alpha = alpha
        self.frequencies = power_law(num_items, alpha)
        if not isinstance(seed, int | np.integer):
            raise RangeError(f"seed is {seed!r}; expected an integer")
        check_anisotropy("anisotropy", anisotropy, dim)
        check_anisotropy("output_anisotropy", output_anisotropy, dim)
        source = normal_source(int(seed), torch.device(device or "cpu"))
        shape = num_items, dim
        if hold_tables is None:
            hold_tables = holds_tables(shape, dtype, source.device)
        kappas = anisotropy, output_anisotropy
        self._inputs, self._outputs = draw_tables(source, shape, dtype, kappas, hold_tables)

    @property
    def inputs(self) -> Tensor:
        """(N, d) input embeddings `u`.

        Raises:
            TableNotHeldError: they are drawn where they are used.
        """
        return self._inputs.tensor

    @inputs.setter
    def inputs(self, table: Tensor) -> None:
        self._inputs = HeldTable(table)

    @property
    def outputs(self) -> Tensor:
        """(N, d) output embeddings `v`; see `inputs`."""
        return self._outputs.tensor

    @outputs.setter
    def outputs(self, table: Tensor) -> None:
        self._outputs = HeldTable(table)

    @property
    def num_items(self) -> int:
        """Number of facts `N`."""
        return self._inputs.shape[0]

    @property
    def dim(self) -> int:
        """Embedding dimension `d`."""
        return self._inputs.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the embeddings, and of every weight and gradient."""
        return self._inputs.dtype

    @property
    def device(self) -> torch.device:
        """Device of the embeddings."""
        return self._inputs.device

    @cached_property
    def mean_output(self) -> Tensor:
        """(d,) mean of the output embeddings: the prediction of a uniform softmax."""
        return self._outputs.sum_parts(lambda part: part.sum(0)) / self.num_items

    @cached_property
    def input_moment(self) -> Tensor:
        """(d, d) second moment of the input embeddings, `(1/N) sum_i u_i u_i^T`."""
        return self._inputs.sum_parts(lambda part: part.T @ part) / self.num_items

    @cached_property
    def output_covariance(self) -> Tensor:
        """(d, d) `C = (1/N) sum_j (v_j - mean)(v_j - mean)^T`."""
        mean = self.mean_output

        def product(part: Tensor) -> Tensor:
            centred = part - mean
            return centred.T @ centred

        return self._outputs.sum_parts(product) / self.num_items

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> Batch:
        """Draw `batch_size` items i.i.d. from the frequencies, at a cost of order `N` for any.

        Args:
            batch_size: `B`, at least 1.
            generator: a CPU generator; default torch's global one.
        """
        return self._batch(*draw(self.frequencies, batch_size, generator))

    def population(self) -> Batch:
        """All items with their frequencies: the batch of infinite size."""
        return self._batch(torch.arange(self.num_items), self.frequencies)

    def loss(self, weight: Tensor, batch: Batch) -> Tensor:
        """Loss of `weight` (d, d) on `batch`, a scalar; differentiable twice in `weight`."""
        check_batch(self, batch, weight=weight)
        if not self._outputs.is_one_part:
            return loss_of_parts(self, weight, batch)
        queries = self._inputs.rows(batch.items) @ weight.T
        outputs = self._outputs.part(0, self.num_items)
        return softmax_loss(queries, outputs, batch.items, batch.weights)

    def gradient(self, weight: Tensor, batch: Batch) -> Tensor:
        """Gradient of the loss, (d, d), computed without autograd."""
        return self.loss_and_gradient(weight, batch)[1]

    def loss_and_gradient(self, weight: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss, a scalar, and gradient, (d, d), in one pass; computed without autograd."""
        check_batch(self, batch, weight=weight)
        loss, gradient = weight.new_zeros(()), torch.zeros_like(weight)
        for items, weights in self._chunks(batch, queries=True):
            inputs = self._inputs.rows(items)
            part, by_query = passes.gradient(inputs @ weight.T, self._outputs, items, weights)
            gradient.addmm_(by_query.T, inputs)
            loss += part
        return loss, gradient

    def hvp(self, weight: Tensor, direction: Tensor, batch: Batch) -> Tensor:
        """The Hessian of the loss at `weight`, times `direction`; all (d, d). No autograd."""
        check_batch(self, batch, weight=weight, direction=direction)
        product = torch.zeros_like(weight)
        for items, weights in self._chunks(batch, queries=True):
            inputs = self._inputs.rows(items)
            by_query = passes.hvp(
                inputs @ weight.T, inputs @ direction.T, self._outputs, items, weights
            )
            product.addmm_(by_query.T, inputs)
        return product

    def gradient_at_zero(self, batch: Batch) -> Tensor:
        """Gradient (d, d) at `W = 0`, where the softmax is uniform, in closed form (derived)."""
        check_batch(self, batch)
        gradient = self._zero()
        for items, weights in self._chunks(batch):
            gradient.addmm_(self._by_query_at_zero(items, weights).T, self._inputs.rows(items))
        return gradient

    def curvature(self, batch: Batch, weight: Tensor | None = None) -> Curvature:
        """The two factors of the Hessian at `W = 0` on `batch`.

        The Hessian at another `weight` (d, d) does not factorize. With a weight, the factors are an
        approximation of it: items count by their error `1 - p` at that weight.
        """
        check_batch(self, batch, **({} if weight is None else {"weight": weight}))
        moment = self._zero()
        for items, weights in self._chunks(batch, queries=weight is not None):
            inputs = self._inputs.rows(items)
            if weight is not None:
                losses = passes.retrieve(inputs @ weight.T, self._outputs, items).loss
                weights = weights * -torch.expm1(-losses)
            moment.addmm_((inputs * weights[:, None]).T, inputs)
        return Curvature(self.output_covariance, moment)

    def gradient_moments(
        self, weight: Tensor | None = None, items: Tensor | None = None
    ) -> GradientMoments:
        """The moments of the gradient of an example drawn from the frequencies, in one pass.

        The gradient of an item has rank one, `g = q u^T`, so that `g g^T = |u|^2 q q^T`.

        Args:
            weight: (d, d); default `W = 0`, where the softmax is uniform and the cost is of order
                `N d^2` in place of `N^2 d`.
            items: (M,) int64, those whose gradient counts; the examples of other items have none.
                Default all.
        """
        items = self._items_or_all(items)
        check_items(self, items, {} if weight is None else {"weight": weight})
        mean, left, right = self._zero(), self._zero(), self._zero()
        frequencies = self.frequencies.to(mean)
        for part in items.split(MOMENT_ROWS):
            inputs, shares = self._inputs.rows(part), frequencies[part]
            by_query = self._query_gradients(weight, part, inputs)
            mean.addmm_((by_query * shares[:, None]).T, inputs)
            left.addmm_((by_query * (shares * inputs.square().sum(1))[:, None]).T, by_query)
            right.addmm_((inputs * (shares * by_query.square().sum(1))[:, None]).T, inputs)
        return GradientMoments(mean, left, right)

    def retrieval(self, weight: Tensor, items: Tensor) -> Retrieval:
        """How `weight` (d, d) retrieves items (M,) int64: margins, ranks and losses, each (M,)."""
        check_items(self, items, {"weight": weight})
        parts = [
            passes.retrieve(self._inputs.rows(part) @ weight.T, self._outputs, part)
            for part in items.split(self._items_at_once(queries=True))
        ]
        return Retrieval(*map(torch.cat, zip(*parts, strict=True)))

    def recall(self, weight: Tensor, items: Tensor | None = None) -> Recall:
        """The items that `weight` (d, d) recovers.

        An item that no gradient has seen is recovered only by chance, with probability about `1/N`
        (derived), so after a step on a batch it is enough to evaluate the items of the batch.

        Args:
            weight: the matrix.
            items: (M,) int64, the items to evaluate; default all.
        """
        items = self._items_or_all(items)
        check_items(self, items, {"weight": weight})
        if not (items[1:] > items[:-1]).all():
            items = torch.unique(items)
        return Recall(items, recovered_items(weight, self._inputs, self._outputs, items))

    def _by_query_at_zero(self, items: Tensor, weights: Tensor) -> Tensor:
        """(M, d) gradient of the loss in each item's query at `W = 0`."""
        by_query = self._outputs.rows(items).neg_().add_(self.mean_output)
        return by_query.mul_(weights[:, None])

    def _query_gradients(self, weight: Tensor | None, items: Tensor, inputs: Tensor) -> Tensor:
        """(M, d) gradient of each item's loss in its query, without its frequency.

        Rare items so lose no digits to a division.
        """
        if weight is None:
            return self.mean_output - self._outputs.rows(items)
        ones = inputs.new_ones(len(items))
        return passes.gradient(inputs @ weight.T, self._outputs, items, ones)[1]

    def _chunks(self, batch: Batch, *, queries: bool = False) -> Iterator[Batch]:
        """A batch in parts, small ones where each is a pass of queries over the outputs."""
        size = self._items_at_once(queries=queries)
        return map(Batch, batch.items.split(size), batch.weights.split(size))

    def _items_at_once(self, *, queries: bool) -> int:
        many = queries and not self._outputs.is_one_part
        return passes.QUERIES if many else rows_at_once(*self._inputs.row)

    def _zero(self) -> Tensor:
        return torch.zeros(self.dim, self.dim, dtype=self.dtype, device=self.device)

    def _items_or_all(self, items: Tensor | None) -> Tensor:
        return torch.arange(self.num_items, device=self.device) if items is None else items

    def _batch(self, items: Tensor, weights: Tensor) -> Batch:
        return Batch(items.to(self.device), weights.to(self.device, self.dtype))
