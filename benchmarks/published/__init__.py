"""What was measured and is published: ``python -m benchmarks report``.

*.json        the published figures; results/*.json are the last runs on this machine, which may be anything
kept.py       reads both, and puts a new run's lines in the place of the old ones
names.py      how stores are called; the star behind a line that others disturbed
bench.py      tables of W1 to W4 beside their floors, of the probes, of W10
peers.py      the table of the other engines
profiles.py   tables of where the time goes
scaling.py    tables of how it grows with more processes
aims.py       what was to be reached, and what was
pages.py      puts the tables between the marks in README.md and scale.md
command.py    the command

No figure in a page is typed by hand; a test compares the pages with the files.
"""
