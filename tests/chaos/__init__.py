"""Proof that publishing survives kills, zombies, concurrent runs and flaky stores: ``python -m tests.chaos``."""
