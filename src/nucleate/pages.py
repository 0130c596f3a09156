"""Self-contained HTML pages: one file with its images and plots, without scripts."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nucleate.geometry.palette import BLUE, CLASS_RGB, YELLOW, web_colour

INK, SOFT = web_colour(BLUE), "#c9d6e3"  # of bars and boxes
SERIES = tuple(web_colour(rgb) for rgb in CLASS_RGB if rgb != YELLOW)  # yellow is faint on white


def page(template: str, **facts: object) -> str:
    """Fill in a template of `templates/` and return the page; every value is escaped.

    Args:
        template: name of the file.
        facts: values that the template names; a missing one is an error.
    """
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("nucleate"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["data_url"] = data_url
    return templates.get_template(template).render(facts)


def data_url(image: bytes, form: str) -> str:
    """Return an image as a data URL.

    Args:
        image: the content of a file.
        form: `jpeg` or `png`.

    Example:
        >>> data_url(b"abc", "png")
        'data:image/png;base64,YWJj'
    """
    return f"data:image/{form};base64,{base64.b64encode(image).decode()}"


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot that a page and a paper show alike.

    Attributes:
        title: above the plot.
        x: label of the axis.
        y: label of the axis.
        draw: draws on matplotlib axes.
        height: in inches; the width is 5.2.
    """

    title: str
    x: str
    y: str
    draw: Callable[[Any], Any]
    height: float = 3.0

    def render(self, *forms: str) -> list[bytes]:
        """Return the plot as files: `png`, `svg` or `pdf`. In the last two, text stays text.

        The same plot gives the same bytes.
        """
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        files = []
        with (
            mpl.rc_context({"text.parse_math": False, "svg.fonttype": "none", "pdf.fonttype": 42,
                            "svg.hashsalt": "nucleate"}),
            warnings.catch_warnings(),
        ):  # fmt: skip
            # no font has every script
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            canvas = Figure(figsize=(5.2, self.height))
            FigureCanvasAgg(canvas)
            ax = canvas.add_subplot()
            self.draw(ax)
            ax.set(title=self.title, xlabel=self.x, ylabel=self.y)
            ax.spines[["top", "right"]].set_visible(False)
            ConstrainedLayoutEngine().execute(canvas)  # once, not for every file
            for form in forms:
                stamp = {"svg": "Date", "pdf": "CreationDate"}.get(form)
                about = {stamp: None} if stamp else None
                canvas.savefig(buffer := io.BytesIO(), format=form, dpi=110, metadata=about)
                files.append(buffer.getvalue())
        return files
