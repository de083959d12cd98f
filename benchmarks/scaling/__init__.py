"""How far it goes with more processes, and what ends it: ``python -m benchmarks scale``."""
