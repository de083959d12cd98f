"""A static analyser for workflow code: `lint` finds what would make a workflow diverge, block or lose a cancellation.

It reads source and runs nothing. From every function that is decorated with ``@durable.workflow`` it follows calls
within the package, and looks at each function on the way. It is no type checker: what it cannot see through (methods
of objects of unknown type, functions in containers, other packages) it lets pass, and the guards of the running
workflow and the replayer remain.
"""

from durable.lint.findings import RULES, Finding, Rule
from durable.lint.reach import lint

__all__ = ["RULES", "Finding", "Rule", "lint"]
