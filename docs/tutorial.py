# %% [markdown]
# # Tutorial: how many facts does one step store?
#
# This page is the script [`docs/tutorial.py`](tutorial.py). It runs in seconds on a CPU, as a
# script or cell by cell in an editor that knows the percent format.
#
# An associative memory is one matrix `W` of size d x d. Fact `i` is a pair of random embeddings
# `u_i -> v_i`, and the frequency of fact `i` is proportional to `i^-alpha`. The memory recovers
# fact `i` if, among all `N` outputs, `v_i` has the largest logit `v_j . W u_i`.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import memsolve
from memsolve import theory
from memsolve.optim import Muon
from memsolve.study import Grid, capacity

ALPHA, DIMS = 1.5, (32, 64, 128)

memory = memsolve.AssociativeMemory(num_items=8192, dim=64, alpha=ALPHA, seed=0)
print(f"{memory.num_items} facts, one {memory.dim} x {memory.dim} matrix")
print(f"share of the ten most frequent facts: {float(memory.frequencies[:10].sum()):.0%}")

# %% [markdown]
# ## One step of SGD and one step of Muon
#
# Both start at `W = 0` and use the exact gradient over all facts, the *population* gradient. The
# number of recovered facts does not depend on the learning rate of a single step from zero.

# %%
population = memory.population()


def one_step(make, memory):
    """The weight after one step from W = 0 on the population gradient."""
    weight = torch.zeros(memory.dim, memory.dim, dtype=memory.dtype, requires_grad=True)
    weight.grad = memory.gradient_at_zero(memory.population())
    make([weight]).step()
    return weight.detach()


def sgd(params):
    return torch.optim.SGD(params, lr=1.0)


def muon(params):
    return Muon(params, lr=1.0, momentum=0.0)


for make in (sgd, muon):
    recall = memory.recall(one_step(make, memory))
    print(f"{make.__name__}: {recall.count} facts; 99% of the top {recall.top_rank()}")

# %% [markdown]
# The gradient is a sum of one outer product per fact, weighted by the frequency of the fact. SGD
# keeps these weights, so the most frequent facts drown the others. Muon sets all singular values
# to one, and rarer facts become visible:

# %%
gradient = memory.gradient_at_zero(population)
for name, matrix in (("gradient", gradient), ("Muon's step", one_step(muon, memory))):
    values = torch.linalg.svdvals(matrix)
    print(f"{name}: singular values from {float(values[0]):.2g} to {float(values[-1]):.2g}")

# %% [markdown]
# ## Recovered facts against d, and the law
#
# For one step the paper proves `d^(1 + 1/(2 alpha))` facts for Muon; for SGD this project derives
# `d^(1/(2 alpha))`. Both hold up to constants and logarithms, so compare slopes.

# %%
counts = {make.__name__: [] for make in (sgd, muon)}
for dim in DIMS:
    memory = memsolve.AssociativeMemory(num_items=128 * dim, dim=dim, alpha=ALPHA, seed=0)
    for make in (sgd, muon):
        counts[make.__name__].append(memory.recall(one_step(make, memory)).count)

for name, recovered in counts.items():
    slope = np.polyfit(np.log(DIMS), np.log(recovered), 1)[0]
    law = theory.exponent(name, "recovered", ALPHA)
    print(f"{name}: {recovered}, slope {slope:.2f}, law {law:.2f}")

# %% [markdown]
# ## Your own optimizer
#
# Any `torch.optim.Optimizer` will do. This one divides every column of the gradient by its length.


# %%
class ColumnNormalized(torch.optim.Optimizer):
    """Gradient descent with columns of unit length."""

    def __init__(self, params, lr=1.0):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param -= group["lr"] * torch.nn.functional.normalize(param.grad, dim=0)


# %% [markdown]
# ## The same as a study
#
# `memsolve.run` repeats the measurement over seeds, fits the exponents with 95% intervals, compares
# them with the laws, and writes results, figures and a report into the folder `out`.

# %%
grid = Grid(
    {"sgd": "sgd", "muon": "muon", "columns": ColumnNormalized}, alphas=[ALPHA], dims=DIMS, seeds=3
)
summary = memsolve.run(capacity, grid, out="results/tutorial")
for fit in summary.fits:
    print(f"{fit.optimizer}: {fit.estimate}, law {fit.law or 'none'}")

# %%
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for fit in summary.fits:
    means = [point.mean for point in fit.points]
    axes.loglog(DIMS, means, "o-", base=2, label=fit.optimizer)
    if fit.law:
        law = [means[-1] * (dim / DIMS[-1]) ** fit.law.exponent for dim in DIMS]
        axes.loglog(DIMS, law, "k:", base=2)
axes.set(xlabel="d", ylabel="recovered facts", title="One step; dotted: the slope of the law")
_ = axes.legend()

# %% [markdown]
# Open `results/tutorial/report.html` for the full report. [Studies](studies.md) lists what else can
# be measured, and [Optimizers](optimizers.md) says how to name an optimizer on the command line.
