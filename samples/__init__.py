"""Samples: small programs to read, to run and to change. Each is run by its tests (`make samples`)."""
