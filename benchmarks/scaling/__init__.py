"""How far it goes with more processes, and what ends it: ``python -m benchmarks scale``.

setups.py    what is tried: processes, a worker's options, the database's settings
command.py   the command
"""
