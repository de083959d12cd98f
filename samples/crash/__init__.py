"""Kill a worker with kill -9 in the middle of its work, again and again, and count what ran once and what ran twice.

workflow.py  the workflow and its activity, which writes down each of its calls in a ledger outside of the engine
ledger.py    that ledger: a text file, one line for each call begun and each call ended
round.py     one round: start workflows, kill the worker in the middle, start the next one, wait
verdict.py   what the ledger and the histories say: what ran once, what ran twice, what must not have happened
__main__.py  the command line: `python -m samples.crash --times 10`
"""
