"""The composition root: each role put together from the settings, in a module of its own; nothing of ours is above it
but the command line.

Each module has `main(settings)`, the process; `run(settings)`, the same in a loop that runs already; and functions that
put parts together without starting them, which tests use too.
"""
