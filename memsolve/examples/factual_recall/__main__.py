"""`python -m memsolve.examples.factual_recall`: the command of the study, with all its options."""

import sys

from memsolve.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "memsolve.examples.factual_recall.study")
    main()
