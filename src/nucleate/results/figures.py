"""Show nuclei in a notebook: a matplotlib plot, and HTML with a drawing and a table."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError, nearest, optional
from nucleate.geometry.palette import OUTLINE_ON_WHITE_RGB, OUTLINE_RGB, web_colour
from nucleate.readers.images import image_in_memory
from nucleate.types import Instances

_SHOWN = 2_000  # maximum number of nuclei drawn in a notebook


def plot(nuclei: Instances, image: Any, column: str | None, axes: Any) -> Any:  # noqa: ANN401
    """Draw all outlines on matplotlib axes and return the axes, see `Instances.plot`."""
    plt = optional("matplotlib.pyplot", "data")
    collections = optional("matplotlib.collections", "data")
    values = {"score": nuclei.scores, **nuclei.features}
    if column is not None and column not in values:
        raise InputError(f"There is no feature {column!r}. {nearest(column, list(values))}")
    width, height = nuclei.frame.width, nuclei.frame.height
    pixels = None if image is None else image_in_memory("plot", image).pixels
    if pixels is not None and pixels.shape[:2] != (height, width):
        raise InputError(
            f"plot: the image has {pixels.shape[1]} × {pixels.shape[0]} pixels, but the image of "
            f"the nuclei has {width} × {height}. Pass the image that was segmented."
        )
    if axes is None:
        axes = plt.subplots(layout="constrained")[1]
    if pixels is not None:
        axes.imshow(pixels, extent=(0, width, height, 0))
    rings = np.split(nuclei.coords_xy, nuclei.offsets[1:-1]) if len(nuclei) else []
    rgb = OUTLINE_ON_WHITE_RGB if pixels is None else OUTLINE_RGB
    colour = {"edgecolors": web_colour(rgb)} if column is None else {}  # else from the column
    drawn = collections.PolyCollection(rings, facecolors="none", linewidths=1.0, **colour)
    if column is not None:
        drawn.set(array=np.asarray(values[column], np.float64), cmap="cividis")
        axes.figure.colorbar(drawn, ax=axes, label=column.replace("_", " "))
    axes.add_collection(drawn)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    return axes


def as_html(nuclei: Instances) -> str:
    """Return HTML for a notebook: the outlines and a table of the features."""
    shown = nuclei.take(np.arange(0, len(nuclei), max(1, -(-len(nuclei) // _SHOWN))))
    rings = np.split(shown.coords_xy, shown.offsets[1:-1]) if len(shown) else []
    path = " ".join("M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in r) + "Z" for r in rings)
    some = f" ({len(shown):,} of them drawn)" if len(shown) < len(nuclei) else ""
    frame = nuclei.frame
    unit = "resolution unknown" if frame.mpp is None else f"{frame.mpp:g} µm per pixel"
    rows = "".join(
        f"<tr><td style='text-align:left'>{escape(name)}</td>"
        + "".join(f"<td>{q:.4g}</td>" for q in _quartiles(values))
        + "</tr>"
        for name, values in {**nuclei.features, "score": nuclei.scores}.items()
    )
    return (
        f"<p><b>{len(nuclei):,} nuclei</b>{some} on {frame.width:,} × {frame.height:,} pixels, "
        f"{unit}</p><svg width='360' viewBox='0 0 {frame.width} {frame.height}' "
        f"style='max-height:360px;border:1px solid #aaa'><path d='{path}' fill='none' "
        f"stroke='{web_colour(OUTLINE_ON_WHITE_RGB)}' stroke-width='1.5' "
        "vector-effect='non-scaling-stroke'/></svg>"
        "<details><summary>features</summary><table><tr><th></th><th>25 %</th><th>median</th>"
        f"<th>75 %</th></tr>{rows}</table></details>"
    )


def _quartiles(values: NDArray[Any]) -> list[float]:
    """Return the quartiles of the finite values; NaN if there are none."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return np.quantile(known, (0.25, 0.5, 0.75)).tolist() if len(known) else [np.nan] * 3
