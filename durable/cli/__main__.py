"""``python -m durable.cli``: the command line where its script is not on the path."""

from durable.cli.main import main

main()
