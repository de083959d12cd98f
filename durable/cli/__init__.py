"""The command line, ``durable``: one file for each command. It knows everything, and nothing knows it."""
