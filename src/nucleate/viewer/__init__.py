"""Looking at results: a page for the browser, and the small server behind it.

A request is followed through `guard` (may it come in?) and `app` (what does it want?) to `pixels`
(a piece of the image) or `table` (nuclei of a region); `shown` states what is shown at all, and
`queue` segments what is dropped on the page.
"""
