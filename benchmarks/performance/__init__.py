"""What AutoTuneNet costs, beside its peers, measured in one run: ``python -m benchmarks.performance --help``.

Every part is a module with a function ``measure(settings) -> list[Table]``; `benchmarks.performance.__main__` lists
them. Machines are noisy, so nothing here compares two times that were taken one after the other: the variants of a
comparison take turns, round by round (`timing.take_turns`), and what is reported is the ratio within a round.
"""
