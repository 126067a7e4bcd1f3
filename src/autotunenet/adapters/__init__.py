"""Frameworks -> `TrainingRun`. Import the adapter you need: this package imports none of them by itself."""
