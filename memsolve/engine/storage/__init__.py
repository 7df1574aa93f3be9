"""Results on disk: a folder of a study's own, written cell by cell."""
