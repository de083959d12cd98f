"""Where the time goes: ``python -m benchmarks profile``.

program.py   runs a workload, in a process of its own, and says what CPU time its threads took
stacks.py    what py-spy saw in it, function by function
rooms.py     which part of the engine a function belongs to
profiled.py  both together: microseconds of CPU a workflow, by room
command.py   the command

py-spy looks at the process from outside, without stopping it, some hundred times a second, and counts only threads that
run. A deterministic profiler (cProfile) would make small functions dear, of which a workflow calls some hundred.
"""
