"""What is measured beside the tests: speed, memory, and how good the searches and trainings are."""
