"""Which optimizers store most, all tuned by one rule with one budget: a ranking."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from memsolve import theory
from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import Estimate, mean, power_law_exponent
from memsolve.engine.results.tidy import Measured, measured
from memsolve.faults import StepError
from memsolve.problem import AssociativeMemory
from memsolve.report.drawing import Bar
from memsolve.report.powers import against_dim
from memsolve.report.words import count
from memsolve.study.leaderboard import figures
from memsolve.study.leaderboard.cost import cost
from memsolve.study.leaderboard.grid import TUNING_SEEDS, LeaderboardGrid, LeaderboardTrial
from memsolve.study.leaderboard.point import LeaderboardPoint, LeaderboardRun, best, shown, standing
from memsolve.study.leaderboard.ranking import behind, rank, ranking
from memsolve.study.leaderboard.records import recorded
from memsolve.study.training.grid import TuningKey, by_tuning_key
from memsolve.study.training.trajectory import choose, trajectory
from memsolve.study.training.tuned_study import TrainingStudy
from memsolve.study.training.tuning import Candidate, Selection
from memsolve.training import Builder


class Leaderboard(
    TrainingStudy[LeaderboardGrid, LeaderboardTrial, LeaderboardRun, LeaderboardPoint]
):
    """Items stored after 1, 10 and all steps, critical batch size, time and state."""

    name = "leaderboard"
    question = "Which optimizers store most after 1, 10 and 50 steps, all tuned with one budget."
    quantity = "items stored after 1 / 10 / all steps"
    definition = (
        "Items whose own logit is the largest, of all N, after 1, 10 and all steps on the gradient "
        "of the population from W = 0. Every optimizer has the settings of its package, but for "
        "what its name says, and one budget: on seed 0, which is not shown, both a constant and an "
        "inverse schedule are tried with five step sizes, found by the rule of dynamics, and up to "
        "four more where the best after all steps is at an end, unless step sizes or schedules are "
        "given. For each number of steps the trial that had stored "
        "most by then is run again on other seeds, and those are the numbers. A run that ends "
        "early, because it diverged or a step failed, counts 0 from then on. The ranking is by the "
        "share of the best: what an optimizer stores over the most that any of those compared "
        "does, mean over alphas, d and numbers of steps; its interval is over seeds. Behind "
        "the one above is the difference of that share to the next better one, on the same seeds; "
        "within noise where its interval holds 0. The critical batch size, at the smallest d, is "
        "the smallest with which 10 steps store 80% of what 10 steps on the population do, tuned "
        "likewise. Time is that of a step, its gradient "
        "included, over that of a step of SGD in turn with it; state is what is kept from step to "
        "step, in numbers a weight. This ranks how well optimizers store facts in one linear "
        "layer, by steps. It cannot rank them by time at another size, on deep networks, or with "
        "other settings than these: momentum, decay and the like are not tuned, and batches are "
        "seen in the critical batch size alone."
    )
    legend = (
        "share: of the best, mean over alphas, d and numbers of steps; time: of a step over "
        "SGD's; state: numbers kept a weight; B_80%: the smallest batch that stores 80% of what "
        "the population does in 10 steps (?: not identified, the report says why)"
    )
    record = recorded("leaderboard")
    grid = LeaderboardGrid()
    cell = LeaderboardTrial
    result = LeaderboardRun
    point = LeaderboardPoint

    def batch_sizes(self, grid: LeaderboardGrid, alpha: float, dim: int) -> list[int | None]:
        """The population; at the smallest `d` batches, too."""
        sizes = grid.batch_sizes_of(alpha, dim) if dim == min(grid.dims) else []
        return [*sizes, None]

    def trial(
        self, grid: LeaderboardGrid, place: TuningKey, seed: int, tried: Candidate
    ) -> LeaderboardTrial:
        """A run of the tuning."""
        name, alpha, dim, batch_size = place
        steps = grid.steps_with(batch_size)
        return LeaderboardTrial(
            name, alpha, dim, grid.items_of(dim), batch_size, seed, *tried, steps
        )

    def tuned_on(self, grid: LeaderboardGrid) -> range:
        """Seeds that are not shown."""
        return TUNING_SEEDS

    def next_cells(
        self, grid: LeaderboardGrid, results: Mapping[LeaderboardTrial, LeaderboardRun]
    ) -> list[LeaderboardTrial]:
        """What tuning asks for; once it has ended, the runs that are shown."""
        tuned = {run: result for run, result in results.items() if run.tunes}
        if further := super().next_cells(grid, tuned):
            return further
        wanted = [
            run
            for place, runs in by_tuning_key(tuned).items()
            for steps in (grid.horizons if place.batch_size is None else [grid.steps_with(1)])
            for run in shown(grid, place, best(runs, steps), steps)
        ]
        return sorted(set(wanted) - set(results), key=lambda run: (run.memory, str(run)))

    def run(
        self,
        grid: LeaderboardGrid,
        memory: AssociativeMemory,
        build: Builder,
        cell: LeaderboardTrial,
    ) -> LeaderboardRun:
        """The run, with its costs where it is the longest that is shown."""
        start = time.perf_counter()
        found = trajectory(replace(grid, steps=cell.steps), memory, build, cell)
        run = LeaderboardRun(**vars(found), took=time.perf_counter() - start)
        if not cell.tunes and cell.batch_size is None and cell.steps == grid.steps:
            with suppress(StepError):  # of a run that ended in it
                return replace(run, **cost(memory, build, cell.lr)._asdict())
        return run

    def select(self, runs: Mapping[LeaderboardTrial, LeaderboardRun]) -> Selection:
        """What tuning follows: the most in the end."""
        return choose(runs)

    def fits(
        self, grid: LeaderboardGrid, results: Mapping[LeaderboardTrial, LeaderboardRun]
    ) -> list[Fit[LeaderboardPoint]]:
        """One fit an optimizer and alpha, the best first; the exponent of the last count."""
        places = by_tuning_key(results)

        def fit(name: str, alpha: float) -> Fit[LeaderboardPoint]:
            points = [
                standing(grid, TuningKey(name, alpha, dim, None), places) for dim in grid.dims
            ]
            counts = [np.array(point.recovered[-1], dtype=float) for point in points]
            slope = power_law_exponent(
                grid.dims, counts, [lambda draws: draws.mean(1)] * len(counts)
            )
            law = theory.Law(2.0, "published limit")
            return Fit(name, alpha, f"recovered after {grid.steps} steps", slope, law, points)

        return self.ranked([fit(name, alpha) for alpha in grid.alphas for name in grid.labels])

    def ranked(self, fits: Sequence[Fit[LeaderboardPoint]]) -> list[Fit[LeaderboardPoint]]:
        """By alpha, then by the share of the best over all alphas."""
        order = list(ranking(fits))
        return sorted(fits, key=lambda fit: (fit.alpha, order.index(fit.optimizer)))

    def rows(self, fits: Sequence[Fit[LeaderboardPoint]]) -> list[dict[str, str]]:
        """Rank, share of the best over all alphas and at each, exponent, critical batch, costs."""
        overall, gaps = ranking(fits), behind(fits)
        shares = {
            alpha: ranking([fit for fit in fits if fit.alpha == alpha])
            for alpha in {fit.alpha for fit in fits}
        }
        return [
            {
                "rank": rank(overall, fit.optimizer),
                "share [95%]": str(overall[fit.optimizer]),
                "behind the one above [95%]": gaps[fit.optimizer],
                "at this alpha": str(shares[fit.alpha][fit.optimizer]),
                "exponent in d [95%]": fit.estimate.format(),
                f"B_80% at d = {fit.points[0].dim}": _known(fit.points[0].critical),
                "time": f"{np.median(fit.points[-1].time):.1f}" if fit.points[-1].time else "-",
                "state": f"{fit.points[-1].state:.1f}",
            }
            for fit in fits
        ]

    def value(self, point: LeaderboardPoint) -> str:
        """Items stored after 1, 10 and all steps."""
        early = f", {point.note.split()[0]}" if point.note else ""
        return " / ".join(count(float(np.mean(seeds))) for seeds in point.recovered) + early

    def score(self, point: LeaderboardPoint) -> float:
        """The most that was stored by any number of steps."""
        return max(float(np.mean(seeds)) for seeds in point.recovered)

    def detail(self, point: LeaderboardPoint) -> str:
        """Items recovered, with intervals, how the trials were tuned, and what a step costs."""
        said = [
            f"after {steps} {told(mean(seeds))} ({schedule}, step size {size:g}"
            f"{', at the edge' if edge else ''})"
            for steps, seeds, schedule, size, edge in zip(
                point.horizons,
                point.recovered,
                point.schedules,
                point.lrs,
                point.edges,
                strict=True,
            )
        ]
        said += [point.note] if point.note else []
        said.append(f"of {point.limit:.0f}, d^2 / (2 ln N)")
        if point.time:
            lowest, highest = min(point.time), max(point.time)
            said.append(f"{lowest:.2f} to {highest:.2f} times the time of a step of SGD")
        said.append(f"{point.state:.2f} numbers a weight kept")
        said.append(f"B_80% {told(point.critical)}")
        return "; ".join(said)

    def tidy(self, result: LeaderboardRun) -> Iterable[Measured]:
        """Counts after each step, and what a step costs."""
        named = ("recovered", "seconds", "time", "state")
        yield from measured([(name, getattr(result, name)) for name in named], step=0)

    def figures(self, summary: Summary[LeaderboardPoint]) -> dict[str, Figure]:
        """The ranking, items against steps, the performance profile, and items against `d`."""
        return {
            "leaderboard": figures.shares(summary),
            "leaderboard-steps": figures.against_steps(summary),
            "leaderboard-profile": figures.profile(summary),
            "leaderboard-against-d": against_dim(
                summary, "items stored in the end", in_the_end, "mean and range over seeds"
            ),
        }


def told(estimate: Estimate) -> str:
    """A number of items or examples with its interval: `133 [120, 141]`; or why there is none."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.note if estimate.value is None else count(estimate.value)
    return f"{count(estimate.value)} [{count(estimate.low)}, {count(estimate.high)}]"


def _known(estimate: Estimate) -> str:
    return "?" if estimate.value is None else told(estimate)


def in_the_end(point: LeaderboardPoint) -> Bar:
    """Items stored after all steps, mean and range."""
    seeds = point.recovered[-1]
    return float(np.mean(seeds)), float(min(seeds)), float(max(seeds))


leaderboard = Leaderboard()
