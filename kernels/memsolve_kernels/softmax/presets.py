"""Launch configurations of the softmax kernels, by pass, kind of product and architecture.

A row is the arguments of `plan.TileConfig`: block_b, block_n, block_d, num_warps, num_stages and,
where it is not one, ctas_per_sm and lanes. It serves d up to block_d. Up to FEW queries have rows
of their own. An architecture without rows takes those of its fallback (`architectures.FALLBACK`).

Passes: "odds" is loss and gradient by the queries, "outputs" the gradient by the outputs,
"covariance" and "curvature" are products of the Hessian, "rank" is retrieval.

"odds" and "covariance" keep a weighted sum of block_d columns on chip, "curvature" keeps two; where
d is too large for "curvature", "odds" and "covariance" run one after the other. "outputs" keeps a
sum for each of block_b items, and iterates over queries by block_n. Where d is too large for them,
"weights", "centred" or "output_weights" fill a scratch and "accumulate" multiplies it; all of these
iterate over any d, and their block_n must be a multiple of that of "accumulate". "entropy_weights"
is "output_weights" where an entropy takes part, with more registers. "rank" keeps its queries
on chip, and "long_rank" iterates over d.

On sm_90, rows in half precision are those with the fewest predicted cycles among those compared
(bench/NOTES.md); others have similar tiles, or the largest ones. None spills with the oldest or the
newest Triton, and none has been timed on a GPU yet.
"""

from memsolve_kernels.architectures import with_fallbacks

FEW = 16  # queries that get tiles of their own; a tensor core takes at least 16
ANY_DIM = ("long_rank", "weights", "centred", "output_weights", "entropy_weights", "accumulate")
"""The passes whose kernels iterate over d, and so serve any d."""

Row = (
    tuple[int, int, int, int, int]
    | tuple[int, int, int, int, int, int]
    | tuple[int, int, int, int, int, int, int]
)
_ROWS: dict[tuple[str, str], dict[int, list[Row]]] = {
    ("odds", "half"): {
        80: [(64, 64, 64, 4, 3, 3), (64, 64, 128, 4, 2, 2), (64, 64, 256, 8, 2)],
        90: [(64, 64, 64, 4, 3, 4), (64, 64, 128, 4, 3, 3), (64, 64, 256, 4, 2, 2)],
        100: [
            (64, 64, 64, 8, 3),
            (128, 64, 64, 8, 3),
            (64, 64, 128, 8, 3),
            (128, 64, 128, 8, 3),
            (64, 64, 256, 8, 2),
        ],
    },
    ("odds", "tf32"): {
        80: [(128, 64, 64, 8, 2), (64, 64, 128, 8, 2)],
        90: [(128, 64, 64, 8, 2), (128, 32, 128, 8, 2)],
        100: [(128, 64, 64, 8, 2), (128, 32, 128, 8, 2)],
    },
    ("odds", "tf32x3"): {
        80: [],
        90: [(128, 32, 64, 8, 2)],
        100: [(64, 64, 64, 8, 2)],
    },
    ("curvature", "half"): {
        80: [(64, 32, 64, 4, 3, 2), (64, 64, 128, 8, 2)],
        90: [(64, 64, 64, 4, 3, 2), (64, 32, 128, 4, 3, 2)],
        100: [
            (64, 64, 64, 8, 3),
            (128, 64, 64, 8, 3),
            (64, 64, 128, 8, 3),
            (128, 64, 128, 8, 3),
            (64, 32, 256, 8, 2),
        ],
    },
    ("covariance", "half"): {
        80: [(64, 64, 64, 4, 3, 2), (64, 64, 128, 4, 2, 2), (64, 64, 256, 8, 2)],
        86: [(64, 64, 64, 4, 3, 2), (64, 64, 128, 4, 2, 2), (64, 32, 256, 8, 2)],
        90: [(64, 64, 64, 4, 3, 3), (64, 64, 128, 4, 3, 2), (64, 32, 256, 4, 2, 2)],
        100: [
            (64, 128, 64, 8, 3),
            (128, 128, 64, 8, 3),
            (64, 64, 128, 8, 3),
            (128, 64, 128, 8, 3),
            (64, 64, 256, 8, 2),
        ],
    },
    ("covariance", "tf32"): {
        80: [(128, 32, 64, 8, 2)],
        90: [(128, 64, 64, 8, 2)],
        100: [(128, 64, 64, 8, 2)],
    },
    ("covariance", "tf32x3"): {
        80: [],
        90: [(128, 32, 64, 8, 2)],
        100: [(64, 32, 64, 8, 2)],
    },
    ("outputs", "half"): {
        80: [(64, 64, 64, 4, 3, 3), (64, 64, 128, 4, 2, 2), (64, 64, 256, 8, 2)],
        90: [(64, 64, 64, 4, 3, 3), (64, 64, 128, 4, 3, 3), (64, 64, 256, 4, 2, 2)],
        100: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 3), (64, 64, 256, 8, 2)],
    },
    ("outputs", "tf32"): {
        80: [(128, 32, 64, 8, 2)],
        90: [(128, 64, 64, 8, 2)],
        100: [(128, 64, 64, 8, 2)],
    },
    ("outputs", "tf32x3"): {
        80: [],
        90: [(128, 32, 64, 8, 2)],
        100: [(64, 32, 64, 8, 2)],
    },
    ("rank", "half"): {
        80: [(64, 64, 64, 4, 3, 4, 8), (64, 64, 128, 4, 2, 3, 8), (64, 64, 256, 4, 2, 1, 8)],
        90: [(128, 64, 64, 8, 3, 3, 4), (128, 64, 128, 8, 2, 3, 4), (128, 32, 256, 8, 3, 2, 4)],
        100: [(128, 64, 64, 8, 3), (128, 64, 128, 8, 3), (128, 64, 256, 8, 3)],
    },
    ("long_rank", "half"): {
        80: [(128, 128, 64, 8, 4)],
        90: [(128, 128, 64, 8, 4)],
        100: [(128, 128, 64, 8, 4)],
        120: [(64, 128, 64, 8, 3)],
    },
    ("long_rank", "tf32"): {
        80: [(128, 128, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 128, 32, 8, 3)],
        120: [(128, 64, 32, 8, 3)],
    },
    ("long_rank", "tf32x3"): {
        80: [(128, 64, 32, 8, 3)],
        90: [(128, 64, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
        120: [(128, 32, 32, 8, 3)],
    },
    ("long_rank", "ieee"): {
        80: [(64, 64, 16, 8, 2)],
        90: [(64, 64, 16, 8, 2)],
        100: [(64, 64, 16, 8, 2)],
    },
    ("weights", "half"): {
        80: [(128, 256, 64, 8, 3)],
        86: [(128, 128, 64, 8, 3)],
        90: [(128, 256, 64, 8, 3)],
        100: [(128, 256, 64, 8, 3)],
    },
    ("weights", "tf32"): {
        80: [(128, 128, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 128, 32, 8, 3)],
    },
    ("weights", "tf32x3"): {
        80: [(128, 64, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 128, 32, 8, 3)],
    },
    ("weights", "ieee"): {
        80: [(64, 64, 16, 8, 2)],
        90: [(64, 64, 16, 8, 2)],
        100: [(64, 32, 16, 8, 2)],
        120: [(64, 32, 16, 8, 2)],
    },
    ("centred", "half"): {
        80: [(128, 64, 64, 8, 3)],
        90: [(128, 128, 64, 8, 3)],
        100: [(128, 128, 64, 8, 3)],
    },
    ("output_weights", "half"): {
        80: [(128, 128, 64, 8, 3)],
        90: [(128, 128, 64, 8, 3)],
        100: [(128, 64, 64, 8, 3)],
    },
    ("centred", "tf32"): {
        80: [(128, 64, 32, 8, 3)],
        90: [(128, 64, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
    },
    ("output_weights", "tf32"): {
        80: [(128, 128, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
    },
    ("centred", "tf32x3"): {
        80: [(64, 64, 16, 8, 2)],
        90: [(128, 64, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
    },
    ("output_weights", "tf32x3"): {
        80: [(128, 64, 32, 8, 3)],
        90: [(128, 128, 32, 8, 3)],
        100: [(128, 64, 32, 8, 3)],
    },
    ("centred", "ieee"): {
        80: [(64, 32, 16, 8, 2)],
        90: [(64, 32, 16, 8, 2)],
        100: [(64, 32, 16, 8, 2)],
    },
    ("output_weights", "ieee"): {
        80: [(64, 64, 16, 8, 2)],
        90: [(64, 64, 16, 8, 2)],
        100: [(64, 32, 16, 8, 2)],
    },
    ("accumulate", "half"): {
        80: [(128, 64, 128, 8, 3)],
        90: [(128, 32, 256, 8, 3)],
        100: [(128, 64, 128, 8, 3)],
    },
    ("accumulate", "tf32"): {
        80: [(128, 32, 128, 8, 3)],
        90: [(128, 32, 128, 8, 3)],
        100: [(128, 32, 128, 8, 3)],
    },
    ("accumulate", "tf32x3"): {
        80: [(128, 32, 64, 8, 2)],
        90: [(128, 32, 128, 8, 3)],
        100: [(128, 32, 128, 8, 3)],
        120: [(128, 32, 64, 8, 3)],
    },
    ("accumulate", "ieee"): {
        80: [(64, 16, 64, 8, 3)],
        90: [(64, 16, 64, 8, 2)],
        100: [(64, 16, 64, 8, 2)],
    },
}

_ENTROPY_ROWS: dict[str, dict[int, list[Row]]] = {
    "half": {90: [(128, 64, 64, 8, 3)]},
    "tf32": {90: [(128, 64, 32, 8, 3)]},
    "tf32x3": {90: [(128, 64, 32, 8, 3)]},
    "ieee": {},
}
_ROWS |= {
    ("entropy_weights", kind): _ROWS["output_weights", kind] | rows
    for kind, rows in _ENTROPY_ROWS.items()
}

TABLE = {key: with_fallbacks(rows) for key, rows in _ROWS.items()}
"""By pass and kind of product, and then by architecture."""

# Tiles of FEW queries in half precision, on every architecture. Such calls are bound by reading the
# outputs, and as many programs as fit keep loads in flight.
FEW_TABLE: dict[str, list[Row]] = {
    "odds": [
        (16, 128, 64, 4, 3, 4),
        (16, 128, 128, 4, 3, 3),
        (16, 64, 256, 4, 3, 3),
        (16, 64, 512, 8, 2),
    ],
    "curvature": [(16, 128, 64, 4, 3, 3), (16, 128, 128, 4, 3, 2), (16, 64, 256, 4, 3, 2)],
    "covariance": [(16, 128, 64, 4, 3, 4), (16, 128, 128, 4, 3, 2), (16, 64, 256, 4, 3, 2)],
    "rank": [(16, 128, 64, 4, 3, 1, 16), (16, 128, 128, 4, 3, 1, 16), (16, 64, 256, 4, 3, 1, 16)],
    "long_rank": [(16, 128, 64, 4, 4)],
    "weights": [(16, 256, 64, 4, 3)],
    "centred": [(16, 128, 64, 4, 3)],
    "accumulate": [(16, 32, 128, 4, 3, 4)],
}
