"""Your own tables and the engine's in one database, and one transaction over both: SQLite, PostgreSQL, MariaDB.

shop.py      the tables, the activity that books money exactly once, the workflow: the part to read first
database.py  one way to speak to the three drivers
demo.py      three customers order: one changes her mind, and one booking is interrupted
__main__.py  the command line: `python -m samples.transactions --help`
"""
