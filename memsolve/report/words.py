"""Numbers as people read them, the same in the terminal, the figures and the report."""


def count(value: float) -> str:
    """A number of items: `6.8`, `133`."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
