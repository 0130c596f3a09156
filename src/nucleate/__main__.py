"""`python -m nucleate` is the command line."""

from nucleate.cli import main

main()
