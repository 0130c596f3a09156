"""Draw docs/images/napari.jpg: the widget in napari, with the bundled example.

`xvfb-run python docs/programs/napari_image.py`: napari draws with OpenGL, so it needs a display,
if only a virtual one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

IMAGE = Path(__file__).parents[1] / "images" / "napari.jpg"


def main() -> None:
    """Open the sample, press the button, wait, and take the image."""
    viewer = napari.Viewer(show=False)
    viewer.open_sample("nucleate", "cmu-1")
    form = viewer.window.add_plugin_dock_widget("nucleate", "Find nuclei")[1]
    form.draw.value = "both"
    form()
    _wait_until(lambda: len(viewer.layers) == 3)
    viewer.window.resize(1200, 800)
    viewer.camera.zoom *= 2.2
    _wait_until(lambda: False, 2)
    drawn = viewer.screenshot(canvas_only=False)
    Image.fromarray(drawn[..., :3]).save(IMAGE, quality=88)
    viewer.close()


def _wait_until(reached: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not reached() and time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.05)


if __name__ == "__main__":
    main()
