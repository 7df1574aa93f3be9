"""The leaderboard: optimizers ranked by the items they recover, tuned with one budget."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from memsolve.engine import Fit, Row, Study, Summary, TableCell
from memsolve.engine.peak import Peak
from memsolve.engine.results.estimate import mean
from memsolve.engine.results.tidy import Measured
from memsolve.optimizers.lr_behavior import builder_of_run
from memsolve.optimizers.registry import resolve
from memsolve.report.formatting import format_count
from memsolve.seeds import seeded
from memsolve.study import peak
from memsolve.study.formatting import format_estimate
from memsolve.study.leaderboard.candidates import LeaderboardCandidate
from memsolve.study.leaderboard.conclusions import conclusions, format_rank_ranges
from memsolve.study.leaderboard.fits import ONE_STEP, leaderboard_point, one_step_exponent
from memsolve.study.leaderboard.grid import LeaderboardGrid, LeaderboardTrial
from memsolve.study.leaderboard.point import LeaderboardPoint
from memsolve.study.leaderboard.ranking import (
    ORDER,
    in_order,
    largest_state,
    rank,
    ranked_tracks,
    scores,
)
from memsolve.study.leaderboard.records import recorded
from memsolve.study.leaderboard.tracks import flops
from memsolve.study.leaderboard.trial_run import LeaderboardRun, RunContext, Runs, run_trial
from memsolve.study.leaderboard.tuning import by_key, first_trials, key_of, next_trials
from memsolve.study.memory import memory_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERHEAD_FLOPS = 3e7
"""Of a step, as if it took so many flops: that of the optimizer, and of calls."""


class LeaderboardStudy(Study[LeaderboardGrid, LeaderboardTrial, LeaderboardRun, LeaderboardPoint]):
    """Items recovered on the problems of each track, with a ranking for each track."""

    name = "leaderboard"
    question = "Which optimizer recovers the most items, on problems of three kinds?"
    quantity = "items recovered"
    definition = (
        "Items, of all N = 2 d^2, whose own logit is the largest after the last step from W = 0. "
        "The problems form tracks, each with a ranking of its own: one step on the gradient of "
        "the population; 10 and 50 such steps; and 300 steps on batches of B* / 16 and of B* = "
        "d^(alpha + 1/2) items. Problems whose run takes more than 39 Gflop are at the alpha "
        "nearest to 1.5 only, and those above 300 Gflop are left out. The score on a problem is "
        "the share of d^2 / (2 ln N), about what any weight can store, that is recovered; the "
        "score in a track is the mean over its problems, with a 95% interval over seeds. It does "
        "not depend on who else is compared. A problem is saturated, and does not count, if the "
        "recorded counts of SGD, AdamW, Muon and Newton's method are all within 10% of the best "
        "of them. Every optimizer is tuned on every problem by itself, with one budget: 24 "
        "candidates, which differ in the mean learning rate, in its growth over the steps, and in"
        " the momentum of an optimizer that has one. Half of them are points of a Sobol sequence,"
        " with the momentum of the package, none, and that of the point in turn; the others come "
        "in three rounds of steps along the coordinates from the best so far. After one step, "
        "where the learning rate decides on the loss alone, there are no rounds. All run on one "
        "seed, the best four of them on a second one, and the best of these by the mean over both"
        " seeds runs on five further seeds, which are shown. Ties are broken by the lower loss. A"
        " learning rate or momentum in an optimizer's name is not tuned, and a learning rate in "
        "it is that of every step. An entry (defaults) has all settings of its package, the "
        "learning rate too. Of an optimizer that sets its learning rate itself the initial one is"
        " tuned, and one that ignores learning rates has a single candidate. The loss is that of "
        "the population after the last step, in nats; where N > 2048 it is estimated from the "
        "1024 most frequent items and 1024 others. A run has diverged if that loss is not below "
        "ln N, where it began, or if its weight is not finite, and only then it counts 0. A run "
        "whose step fails counts 0. A seed has collapsed if its count is below a quarter of the "
        "median over seeds, where that is at least 4. Seconds are those of one run's steps, with "
        "their gradients and without evaluations, if nothing else ran beside it. State is the "
        "size of the optimizer's state, per number in the weight. The exponent is that of the "
        "items after one step in d. Two optimizers are compared on the same memories by Student's"
        " test of the differences of their scores, stratified by d and corrected by Holm for all "
        "pairs of a track; one is better if p < 0.05. In parentheses beside a rank are the first "
        "and the last rank that these tests do not exclude. Rows are in the order of the score on "
        "minibatches; where these were not measured, on several full gradients, then on one step."
    )
    legend = (
        "rank (ranks that the tests of all pairs do not exclude) and score in a track: share of "
        "d^2 / (2 ln N), mean over its problems; rows are in the order of the score in the first "
        "of these columns; state: numbers in the optimizer's state per weight; edge: a coordinate "
        "of the best candidate is the smallest or largest tried"
    )
    name_width = 20
    record = recorded("leaderboard")
    grid = LeaderboardGrid()
    cell = LeaderboardTrial
    result = LeaderboardRun
    point = LeaderboardPoint
    csv_fields = "track", "steps", "momentum", "shown"

    def batch_sizes(self, grid: LeaderboardGrid, alpha: float, dim: int) -> list[int | None]:
        """Those of the problems at one alpha and `d`."""
        return list(
            dict.fromkeys(
                problem.batch_size
                for problem in grid.problems
                if (problem.alpha, problem.dim) == (alpha, dim)
            )
        )

    def cells(self, grid: LeaderboardGrid) -> list[LeaderboardTrial]:
        """The first trials on every problem.

        Raises:
            RefusedError: optimizers whose learning rates cannot be inferred, and why.
        """
        return by_memory(first_trials(grid))

    def next_cells(self, grid: LeaderboardGrid, results: Runs) -> list[LeaderboardTrial]:
        """The next trials of the tuning; once it has ended at a key, those that are shown."""
        trials = [trial for runs in by_key(results).values() for trial in next_trials(grid, runs)]
        return by_memory(trial for trial in trials if trial not in results)

    def measure(
        self, grid: LeaderboardGrid, cells: Sequence[LeaderboardTrial]
    ) -> Iterator[LeaderboardRun]:
        """The run of each trial."""
        context = RunContext(memory_of(grid, cells[0]))
        builders = resolve(grid.choices)
        for cell in cells:
            build = builder_of_run(builders[cell.optimizer], cell.schedule, cell.lr)
            with seeded(grid.device, cell.seed, cell.dim):
                run = run_trial(context, build, cell)
            yield run if self.is_timed(grid, cell) else self.without_times(run)

    def group(self, cell: LeaderboardTrial) -> Hashable:
        """Trials of one optimizer on one memory share the batches of a problem."""
        return cell.memory, key_of(cell)

    def part(self, cell: LeaderboardTrial) -> Hashable:
        """Trials at one key decide on its further trials."""
        return key_of(cell)

    def cost(self, grid: LeaderboardGrid, cell: LeaderboardTrial) -> float:
        """The flops of its steps and evaluations."""
        return flops(cell.problem) + OVERHEAD_FLOPS * cell.steps

    def is_timed(self, grid: LeaderboardGrid, cell: LeaderboardTrial) -> bool:
        """Whether it is the first run that is shown, whose seconds are reported."""
        return cell.shown and cell.seed == grid.seeds_shown[0]

    def without_times(self, result: LeaderboardRun) -> LeaderboardRun:
        """The run without the seconds of its steps; its processor time stays."""
        return replace(result, seconds=None)

    def peak(self, grid: LeaderboardGrid) -> Peak | None:
        """The bytes of training."""
        return peak.largest_of_training(self, grid)

    def fits(self, grid: LeaderboardGrid, results: Runs) -> list[Fit[LeaderboardPoint]]:
        """One fit for each optimizer and alpha, the best first; its exponent after one step."""
        runs = by_key(results)

        def fit(label: str, alpha: float) -> Fit[LeaderboardPoint]:
            points = [leaderboard_point(grid, label, alpha, dim, runs) for dim in grid.dims]
            estimate = one_step_exponent(points, alpha)
            return Fit(label, alpha, "recovered after one step", estimate, None, points)

        return self.ranked([fit(name, alpha) for name in grid.labels for alpha in grid.alphas])

    def ranked(self, fits: Sequence[Fit[LeaderboardPoint]]) -> list[Fit[LeaderboardPoint]]:
        """By optimizer, in the order of `ranking.in_order`, then by alpha."""
        order = in_order(fits)
        return sorted(fits, key=lambda fit: (order.index(fit.optimizer), fit.alpha))

    def rows(self, fits: Sequence[Fit[LeaderboardPoint]]) -> list[Row[LeaderboardPoint]]:
        """One row for each optimizer: rank and score in each track, and the state."""
        measured = ranked_tracks(fits)
        by_track = {track: scores(fits, track) for track in ORDER if track in measured}
        ranges = format_rank_ranges(fits)

        def cell(track: str, own: Sequence[Fit[LeaderboardPoint]]) -> TableCell:
            name = own[0].optimizer
            score, own_rank = by_track[track][name], rank(by_track[track], name)
            ranks = ranges.get(track, {}).get(name, own_rank)
            head = own_rank if ranks == own_rank else f"{own_rank} ({ranks})"
            text = score.format() if score.value is None else f"{head}: {score.format()}"
            return TableCell(text, score.value, exponents(own) if track == ONE_STEP else "")

        def row(name: str) -> Row[LeaderboardPoint]:
            own = [fit for fit in fits if fit.optimizer == name]
            cells = {f"{track} [95%]": cell(track, own) for track in by_track}
            state = largest_state(own)
            cells["state"] = TableCell("-" if state is None else f"{state:.1f}", state)
            return Row(own, {"optimizer": TableCell(name, name)}, cells)

        return [row(name) for name in in_order(fits)]

    def value(self, point: LeaderboardPoint) -> str:
        """Items recovered on each problem, and what to know of them."""
        remarks = remarks_of(point)
        counts = zip(map(format_count, point.mean), remarks, strict=True)
        return " / ".join(
            f"{count} ({', '.join(words)})" if words else count for count, words in counts
        )

    def score(self, point: LeaderboardPoint) -> float:
        """The largest share of `theory.limit` on any problem."""
        return max(
            (count / limit for count, limit in zip(point.mean, point.limits, strict=True)),
            default=0.0,
        )

    def detail(self, point: LeaderboardPoint) -> str:
        """Items and loss on each problem, with the candidate, and the costs."""
        parts = [describe(point, index) for index in range(len(point.tracks))]
        if point.state is not None:
            parts.append(f"state of {point.state:.2f} numbers per weight")
        parts.append(f"{point.core_seconds / 60:.1f} core minutes")
        return "; ".join(parts)

    def tidy(self, result: LeaderboardRun) -> Iterable[Measured]:
        """Counts after powers of two and the last step, and numbers of the whole run (step 0)."""
        for mark, count in zip(result.marks, result.curve, strict=True):
            yield Measured(mark, "recovered", count)
        for name in ("recovered", "loss", "seconds", "core_seconds", "state"):
            if (value := getattr(result, name)) is not None:
                yield Measured(0, name, value)

    def conclusions(self, summary: Summary[LeaderboardPoint]) -> list[str]:
        """How the user's optimizers compare with Muon and AdamW on each track."""
        return conclusions(summary.fits)

    def figures(self, summary: Summary[LeaderboardPoint]) -> dict[str, "Figure"]:
        """Scores, ranks, differences to Muon, and items against steps."""
        from memsolve.study.leaderboard import figures

        return {
            **figures.comparison_figures(summary),
            "leaderboard-steps": figures.against_steps(summary),
        }


def by_memory(trials: Iterable[LeaderboardTrial]) -> list[LeaderboardTrial]:
    """Trials with those of one memory next to each other."""
    return sorted(trials, key=lambda trial: (trial.memory, trial.steps, trial.batch_size or 0))


def remarks_of(point: LeaderboardPoint) -> list[list[str]]:
    """Of each problem: seeds that diverged, failed or collapsed, and whether tuning has an edge."""
    pairs = zip(point.outcomes, point.at_edge, strict=True)
    return [[*outcomes, *["edge"] * at_edge] for outcomes, at_edge in pairs]


def exponents(fits: Sequence[Fit[LeaderboardPoint]]) -> str:
    """The exponents in `d` of one optimizer after one step, by alpha."""
    return "; ".join(
        f"exponent in d at alpha = {fit.alpha:g}: {fit.estimate.format()}"
        for fit in fits
        if fit.estimate.value is not None
    )


def describe(point: LeaderboardPoint, index: int) -> str:
    """One problem of a point as text: `minibatch, B = 64, 300 steps: 120 [110, 130] items, ...`."""
    batch = point.batch_sizes[index]
    losses = [loss for loss in point.loss[index] if loss is not None]
    candidate = LeaderboardCandidate(
        point.schedules[index], point.lrs[index], point.ratios[index], point.momenta[index]
    )
    facts = [
        point.tracks[index],
        *([] if batch is None else [f"B = {batch}"]),
        f"N = {point.num_items[index]}",
        f"{point.steps[index]} step{'s' if point.steps[index] > 1 else ''}",
    ]
    results = [
        f"{format_estimate(mean(point.recovered[index]))} of {point.limits[index]:.0f}",
        *([f"loss {sum(losses) / len(losses):.2f}"] if losses else []),
        *remarks_of(point)[index],
        f"{candidate}, of {point.candidates[index]}",
        *([] if point.seconds[index] is None else [f"{point.seconds[index]:.2g} s"]),
    ]
    return f"{', '.join(facts)}: {', '.join(results)}"


leaderboard = LeaderboardStudy()
