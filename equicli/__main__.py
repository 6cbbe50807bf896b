"""`python -m equicli` is the `equicli` command."""

from equicli.cli import main

main()
