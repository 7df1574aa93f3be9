"""Followed over commits by asv, which takes lower for better.

The suite is that of the working tree and the package is that of the commit, so that what a commit
lacks is skipped: asv takes NotImplementedError in `setup` for a skip. `version` is set by hand, so
that history survives a change of the suite; raise it where a number changes its meaning.
"""
