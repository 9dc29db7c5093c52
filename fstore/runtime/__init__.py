"""Run a step: resolve its inputs, compute, validate, publish, and apply to the online store."""
