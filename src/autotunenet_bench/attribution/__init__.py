"""The labelled-cause suite: something goes wrong whose cause is known; what does the tuner decide?

`events` says what can go wrong, `trajectory` makes it happen in the middle of a training, `scoring` compares the
decisions with the known causes, and `suite` runs it all. `docs/attribution.md` holds the formulas.
"""
