"""Offline searches over the trainings of this benchmark, and their comparison at equal cost."""
