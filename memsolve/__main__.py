"""`python -m memsolve` is the command memsolve."""

from memsolve.cli import main

main()
