"""Tasks: what a network is asked for, one file or folder each. `task.py` says what a task is."""
