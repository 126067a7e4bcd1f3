"""Benchmark suite for online hyperparameter adaptation: tasks x regimes x controllers -> runs -> metrics -> report.

Importing this package imports nothing else, so that the command line answers at once.
"""
