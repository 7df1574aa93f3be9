"""What follows from a leaderboard: ranges of ranks, and how the user's optimizers compare."""

from memsolve.study.leaderboard.comparison import Blocks, blocks, differences, rank_ranges
from memsolve.study.leaderboard.grid import DEFAULTS, POPULAR
from memsolve.study.leaderboard.ranking import Fits, ranked_tracks, shares_of
from memsolve.study.leaderboard.sentences import sentences


def track_blocks(fits: Fits) -> dict[str, Blocks]:
    """The blocks of every ranked track that has problems that count."""
    tables = {track: shares_of(fits, track) for track in ranked_tracks(fits)}
    return {
        track: blocks(names, [problem.dim for problem in problems], shares)
        for track, (names, problems, shares) in tables.items()
        if shares.size
    }


def own_optimizers(fits: Fits) -> list[str]:
    """The optimizers that are not among the recorded ones: those of the user."""
    names = dict.fromkeys(fit.optimizer for fit in fits)
    return [name for name in names if name not in POPULAR and not name.endswith(DEFAULTS)]


def format_rank_ranges(fits: Fits) -> dict[str, dict[str, str]]:
    """By track and optimizer, the ranks that the test does not exclude, as `1-12` or `3`."""
    return {
        track: {
            name: str(first) if first == last else f"{first}-{last}"
            for name, (first, last) in rank_ranges(table, differences(table)).items()
        }
        for track, table in track_blocks(fits).items()
    }


def conclusions(fits: Fits) -> list[str]:
    """A sentence for each of the user's optimizers and each track; see `sentences.sentences`."""
    own = own_optimizers(fits)
    return [
        sentence
        for track, table in track_blocks(fits).items()
        for sentence in sentences(track, table, own)
    ]
