"""The pure core: no I/O, no wall clock, no running loop but the runs' own."""
