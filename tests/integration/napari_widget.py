"""Press the button of the widget, offscreen: a separate process, which Qt leaves in disorder."""

import sys
import time

from napari.layers import Image
from qtpy.QtWidgets import QApplication

from nucleate import segment
from nucleate.napari_plugin import widget
from tests.synthetic import tissue


def main() -> None:
    """Say what is wrong, or end in peace."""
    image, _ = tissue(160, 200, 25)
    application = QApplication([])
    form = widget.find_nuclei_widget()
    form.image.choices = [Image(image, rgb=True, name="a")]
    form.mpp.value = 0.25
    form.draw.value = "both"
    assert list(form.model.choices) == ["mtl-open", "mtl-small"]
    assert form.model.value == "mtl-small"
    worker, came = form(), []
    worker.returned.connect(came.append)
    until = time.monotonic() + 60
    while not came and time.monotonic() < until:
        application.processEvents()
        time.sleep(0.01)
    (labels, _, _), (polygons, _, kind) = came[0]
    expected = segment(image, mpp=0.25)
    assert len(polygons) == len(expected) == labels.max() > 5
    assert kind == "shapes"
    print("as it should be")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
