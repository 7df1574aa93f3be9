"""Numbers as text, the same in the terminal, the figures and the report."""


def format_count(value: float) -> str:
    """A number of items: `6.8`, `133`."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def format_number(value: float) -> str:
    """Three significant digits: `0.00123`, `-1.5`; all digits before the point: `65,536`."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
