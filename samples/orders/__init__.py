"""A shop's orders: validate, wait for an approval if need be, charge, fulfil, and refund what cannot be fulfilled.

model.py     what an order is, what can become of it, what can go wrong
outside.py   the payment provider and the warehouse: a simulation in a file of its own, which a crash does not undo
workflow.py  the activities and the workflow: the part to read first
demo.py      six orders, one for each way through the workflow
__main__.py  the command line: `python -m samples.orders --help`
"""
