"""View results on a page in the browser, with a small server behind it.

A request passes through `guard` (access control) and `app` (routes) to `pixels` (a tile of the
image) or `table` (the nuclei of a region); `contents` opens what is shown, and `queue` segments
images dropped on the page.
"""
