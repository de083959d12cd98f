"""A subscription: a payment in each cycle, what could not be paid is overdue and asked for again; seen from outside.

workflow.py  the workflow, which publishes where it is by `set_var` at each step, and its activity
watching.py  the outside: prints each change of a variable, and each event of the history, while it runs
__main__.py  the command line: `python -m samples.subscription`, with the modes `schedule`, `await` and `debug`
"""
