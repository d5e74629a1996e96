"""A picture of a fitted law: losses over tokens, curves of equal compute, residuals."""

from typing import TYPE_CHECKING, Any

import numpy as np

from gptlab.insight.scaling.fit import Fit
from gptlab.insight.scaling.law import FLOPS_FACTOR
from gptlab.insight.scaling.verdict import MIN_SPAN, short_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_CURVES = 5  # of equal compute
N_DOTS = 200  # of a drawn curve
GREY, ACCENT = "#666666", "#b3402a"


def draw_fit(fit: Fit, *, flops: float | None) -> "Figure":
    """Draw the fit in three panels.

    Args:
        flops: the budget whose optimum is marked; None marks none.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5), layout="constrained", dpi=110)
    left, middle, right = figure.subplots(1, 3)
    _draw_losses(left, fit)
    _draw_budgets(middle, fit, flops)
    _draw_residuals(right, fit)
    law = fit.law
    figure.suptitle(
        f"$L(N, D) = {law.E:.4g} + {law.A:.4g} / N^{{{law.alpha:.3f}}} + "
        f"{law.B:.4g} / D^{{{law.beta:.3f}}}$     {len(fit.points.loss)} runs",
        fontsize=13,
    )
    return figure


def _draw_losses(axes: "Axes", fit: Fit) -> None:
    """Draw loss over tokens, a line for each size."""
    points = fit.points
    for size, colour in _colours(points.parameters):
        rows = points.parameters == size
        tokens = _between(points.tokens)
        axes.plot(tokens, fit.law.loss(np.full_like(tokens, size), tokens), color=colour, linewidth=1.2)
        axes.plot(points.tokens[rows], points.loss[rows], "o", color=colour, markersize=5, label=short_number(size))
    axes.axhline(fit.law.E, color=GREY, linewidth=0.8, linestyle=":") if _shows(fit.law.E, points.loss) else None
    _label(axes, "tokens, D", "validation loss", "Each size, measured (dots) and fitted (lines)", points.tokens)
    axes.legend(title="parameters, N", fontsize=8, title_fontsize=8)


def _draw_budgets(axes: "Axes", fit: Fit, flops: float | None) -> None:
    """Draw loss over size at equal compute, the least of each curve, and the runs by their compute."""
    import matplotlib as mpl
    from matplotlib.colors import LogNorm

    points, law = fit.points, fit.law
    norm, colours = LogNorm(points.flops.min(), points.flops.max()), mpl.colormaps["viridis"]
    sizes = _between(points.parameters)
    for budget in np.geomspace(points.flops.min(), points.flops.max(), N_CURVES + 2)[1:-1]:
        tokens, colour = budget / FLOPS_FACTOR / sizes, colours(norm(budget))
        inside = (tokens >= points.tokens.min() / 2) & (tokens <= points.tokens.max() * 2)
        axes.plot(sizes[inside], law.loss(sizes, tokens)[inside], color=colour, linewidth=1.2)
        best = law.optimum(budget)
        if sizes[0] <= best.parameters <= sizes[-1] and tokens[inside].size:
            axes.plot(best.parameters, best.loss, "v", color=colour, markersize=8)
    dots = axes.scatter(points.parameters, points.loss, c=points.flops, norm=norm, cmap=colours, s=18)
    if flops is not None:
        best = law.optimum(flops)
        axes.plot(best.parameters, best.loss, "*", color=ACCENT, markersize=13, label=f"best for {flops:.2g} FLOPs")
        axes.legend(fontsize=8)
    axes.figure.colorbar(dots, ax=axes, label="FLOPs, 6 N D")
    title = "Equal compute: fitted curves, their best sizes (triangles), runs (dots)"
    _label(axes, "parameters, N", "validation loss", title, points.parameters)


def _draw_residuals(axes: "Axes", fit: Fit) -> None:
    """Draw how far the runs lie from the law."""
    points = fit.points
    for size, colour in _colours(points.parameters):
        rows = points.parameters == size
        axes.plot(points.tokens[rows], 100 * fit.residuals[rows], "o-", color=colour, markersize=4, linewidth=0.7)
    axes.axhline(0, color=GREY, linewidth=0.8)
    _label(axes, "tokens, D", "measured above the fit, %", "Residuals, a line for each size", points.tokens)


def _colours(sizes: np.ndarray) -> list[tuple[float, Any]]:
    """Return each size with its colour, from small to large."""
    import matplotlib as mpl

    distinct = np.unique(sizes)
    shades = mpl.colormaps["plasma"](np.linspace(0.0, 0.85, len(distinct)))
    return list(zip(distinct.tolist(), shades, strict=True))


def _between(values: np.ndarray) -> np.ndarray:
    """Return numbers from a little below the smallest value to a little above the largest."""
    return np.geomspace(values.min() / 1.2, values.max() * 1.2, N_DOTS)


def _shows(value: float, losses: np.ndarray) -> bool:
    return bool(value > losses.min() - 0.5 * np.ptp(losses))


def _label(axes: "Axes", x: str, y: str, title: str, values: np.ndarray) -> None:
    """Set titles, and ticks at the values of a logarithmic axis."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=10)
    ticks = np.unique(values)
    ticks = ticks if len(ticks) <= MIN_SPAN else np.geomspace(ticks[0], ticks[-1], 5)
    axes.xaxis.set_major_locator(FixedLocator(ticks.tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.grid(alpha=0.25)
