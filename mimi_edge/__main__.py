"""`python -m mimi_edge`: the command line, where `mimi-edge` itself is not on the path."""

from mimi_edge.cli.main import main

main()
