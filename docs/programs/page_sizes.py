"""Measure every page of the built site in Chromium: none is too high, nothing runs off it.

    mkdocs build -d SITE && python docs/programs/page_sizes.py SITE [--width 1400]

A page is at most 6,000 pixels high at 1,400 pixels of width, with its details closed. No page is
wider than the window, and no table or figure is wider than the text. Code may scroll.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

MOST_PX = 6_000
WIDTH = 1_400
_HEIGHT = 900
_MEASURE = """() => {
  const page = document.documentElement, text = document.querySelector(".md-content__inner");
  const wide = [];
  if (page.scrollWidth > page.clientWidth) wide.push(`the page: ${page.scrollWidth} px`);
  for (const part of text.querySelectorAll("table, figure, img")) {
    const box = part.getBoundingClientRect(), most = text.getBoundingClientRect().right;
    if (box.width && box.right > most + 1) {
      const words = (part.innerText || part.alt || "").trim().split("\\n")[0].slice(0, 60);
      wide.push(`${part.tagName.toLowerCase()} "${words}": ${Math.round(box.right - most)} px`);
    }
  }
  return [page.scrollHeight, wide];
}"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


def measured(browser: Browser, address: str, width: int = WIDTH) -> tuple[int, list[str]]:
    """Return the height of a page in pixels, and what runs off it."""
    page = browser.new_page(viewport={"width": width, "height": _HEIGHT})
    page.goto(address)
    page.wait_for_load_state("load")
    height, wide = page.evaluate(_MEASURE)
    page.close()
    return height, wide


def problems(site: Path, width: int = WIDTH) -> list[str]:
    """Return what is wrong with the pages of a site, one line each; nothing is the aim.

    Args:
        site: folder that mkdocs wrote.
        width: of the window, in pixels.
    """
    handler = functools.partial(_Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = []
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    arguments = ["--no-sandbox", "--headless", "--disable-gpu"]
    with sync_playwright() as ready:
        browser = ready.chromium.launch(executable_path=chromium, args=arguments)
        for file in sorted(site.rglob("index.html")):
            name = file.parent.relative_to(site).as_posix()
            address = f"http://127.0.0.1:{server.server_port}/{name}/"
            height, wide = measured(browser, address, width)
            if height > MOST_PX:
                found.append(f"{name}: {height} px high, at most {MOST_PX}")
            found += [f"{name}: runs off by {what}" for what in wide]
        browser.close()
    server.shutdown()
    server.server_close()
    return found


def main() -> None:
    """Print the problems of a site; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("--width", type=int, default=WIDTH)
    given = parser.parse_args()
    if not (given.site / "index.html").is_file():
        sys.exit(f"{given.site}: not a built site. Build it with mkdocs build -d {given.site}.")
    found = problems(given.site, given.width)
    print("\n".join(found) or "every page fits")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
