"""What is no nucleus, drawn on crops: each artefact, and the table of them."""
