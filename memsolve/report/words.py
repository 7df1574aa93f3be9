"""Numbers as people read them, the same in the terminal, the figures and the report."""


def count(value: float) -> str:
    """A number of items: `6.8`, `133`."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def number(value: float) -> str:
    """Any number, three digits of it: `0.00123`, `-1.5`, `65,536`."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
