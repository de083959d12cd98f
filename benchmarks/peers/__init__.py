"""The same work on other engines, in the same run: ``python -m benchmarks.peers`` (``make bench-peers``).

contestants.py   who: ours and the peers, on which store, with how many workflows in flight
environments.py  an environment of its own for each peer, made when it is missing
programs/        one program a peer; of ours one for one process, and one for two
rounds.py        ours, ours in two, peer, ...; again and again: so that what else the machine does meets all alike
report.py        the table and the JSON file

Each round is a process of its own with a new store. A round lasts so many seconds: then nothing new is begun, what is
in flight is finished, and the rate is what was done through the time that it took. Results are checked. Durability is
on everywhere: fsync, ``synchronous_commit``, SQLite in WAL mode with ``synchronous = FULL``.
"""
