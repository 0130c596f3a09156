"""Run the command line with `python -m nucleate`."""

from nucleate.cli import main

main()
