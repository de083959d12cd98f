"""Stores: the contract that they keep, and each of them in a folder."""
