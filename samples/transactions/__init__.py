"""Your own tables and the engine's in one SQLite file, and one transaction over both.

shop.py      the tables, the activity that books money exactly once, the workflow: the part to read first
demo.py      three customers order: one changes her mind, and one booking is interrupted
__main__.py  the command line: `python -m samples.transactions --help`
"""
