"""A run in a terminal, from its event file. Needs rich, which the extra ``watch`` brings."""
