"""One program a peer, run by that peer's own Python: no module of ours is imported there, and none of theirs here.

Each reads a job (JSON, first argument), does the workload for so many seconds, and prints one line of readings.
"""
