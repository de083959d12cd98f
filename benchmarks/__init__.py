"""How fast the engine is, measured beside what its store could do without it: ``python -m benchmarks``.

workloads.py   what is run: W1 one activity, W2 ten in sequence, W3 a fan-out of 100, W4 one at a time
engine.py      a workload on the engine, with the defaults that users have
tape.py        what the engine wrote to SQLite: every transaction, every row
floors.py      the same without the engine: the bare rows in SQLite, the bare functions for memory
rounds.py      engine, floor, engine, floor, ...; a ratio for each round
figures.py     medians and spreads of the rounds
report.py      the table and the JSON file
chart.py       the plot (matplotlib where it is installed, else text)

It is no test: nothing here fails because it is slow. `tests/test_benchmarks.py` looks at the form, never at a time.
"""
