"""Self-contained HTML pages: one file without scripts, images and plots embedded."""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from nucleate.geometry.draw import BLUE, CLASS_RGB, YELLOW, web_colour

INK, SOFT = web_colour(BLUE), "#c9d6e3"  # colours of bars and boxes
SERIES = tuple(web_colour(rgb) for rgb in CLASS_RGB if rgb != YELLOW)  # yellow is faint on white
_STYLE = """
:root { color-scheme: light dark; --line: #d4d9de; --soft: #f3f5f7; --ink: #1c2733; }
@media (prefers-color-scheme: dark) { :root { --line: #3b434c; --soft: #20262c; --ink: #e3e8ec; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 74rem; margin: 2rem auto;
       padding: 0 1.2rem; }
h1 { margin-bottom: .2rem } h2 { margin-top: 2.6rem; border-bottom: 1px solid var(--line) }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child, td:first-child { text-align: left; white-space: nowrap }
th { background: var(--soft) }
.wide { overflow-x: auto } .facts { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0 }
.facts li { list-style: none; background: var(--soft); padding: .6rem 1rem; border-radius: .4rem }
.facts b { display: block; font-size: 1.5rem } .plots { display: flex; flex-wrap: wrap; gap: 1rem }
.plots img { max-width: 100%; background: #fff; border-radius: .4rem }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .9rem }
.sheet.large { grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)) }
figure { margin: 0 } figure img { width: 100%; display: block } .note { color: #a04000 }
figcaption { font-size: .78rem; overflow-wrap: anywhere } .quiet { opacity: .75; font-size: .88rem }
.key { display: inline-block; width: .9em; height: .9em; border: 1px solid #888;
       margin: 0 .3em 0 1em; vertical-align: -.1em } pre { font-size: .78rem; overflow-x: auto }
"""


def page(title: str, blocks: Sequence[str]) -> str:
    """Return a complete HTML page of the given blocks."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>"
        + "\n".join(blocks)
        + "</body></html>\n"
    )


def text(value: object) -> str:
    """Escape a value for HTML.

    Example:
        >>> text("a < b")
        'a &lt; b'
    """
    return html.escape(str(value))


def heading(words: str) -> str:
    """Return a section heading with an anchor."""
    return f'<h2 id="{text(words.lower().replace(" ", "-"))}">{text(words)}</h2>'


def quiet(words: str) -> str:
    """Return a paragraph of explanation, in muted style."""
    return f'<p class="quiet">{text(words)}</p>'


def table(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """Return a table; None gives an empty cell."""
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{text('' if c is None else c)}</td>" for c in row) + "</tr>"
        for row in body
    )
    return f'<div class="wide"><table><tr>{top}</tr>{rows}</table></div>'


def figure(jpeg: bytes, description: str, caption: str) -> str:
    """Return an image with its caption, which is already HTML."""
    data = base64.b64encode(jpeg).decode()
    return (
        f'<figure><img alt="{text(description)}" loading="lazy" '
        f'src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def plots(tags: Sequence[str]) -> str:
    """Return plots side by side."""
    return f'<div class="plots">{"".join(tags)}</div>' if tags else "<p>Nothing to show.</p>"


def plot(title: str, x: str, y: str, draw: Callable[[Any], Any], height: float = 3.0) -> str:
    """Return an image tag with an embedded plot.

    Args:
        title: title above the plot.
        x: label of the x axis.
        y: label of the y axis.
        draw: function that draws on matplotlib axes.
        height: height in inches; the width is 5.2.
    """
    data = base64.b64encode(render(title, x, y, draw, "png", height)).decode()
    return f'<img alt="{text(title)}" src="data:image/png;base64,{data}">'


def render(
    title: str, x: str, y: str, draw: Callable[[Any], Any], form: str, height: float = 3.0
) -> bytes:
    """Render a plot as `png`, `svg` or `pdf`; in the last two, text stays text.

    The same plot gives the same bytes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stamp = {"svg": "Date", "pdf": "CreationDate"}.get(form)
    with (
        mpl.rc_context(
            {
                "text.parse_math": False,
                "svg.fonttype": "none",
                "svg.hashsalt": "nucleate",
                "pdf.fonttype": 42,
            }
        ),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # no font covers all scripts
        canvas = Figure(figsize=(5.2, height), layout="constrained")
        FigureCanvasAgg(canvas)
        ax = canvas.add_subplot()
        draw(ax)
        ax.set(title=title, xlabel=x, ylabel=y)
        ax.spines[["top", "right"]].set_visible(False)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format=form, dpi=110, metadata={stamp: None} if stamp else None)
    return buffer.getvalue()
