"""What Jobledger decides: aggregates, commands, events and policies.

Pure: nothing below this package does I/O, reads a clock or draws a random number. Times are integers,
milliseconds since the Unix epoch, and come in as arguments; ids come in with the commands.
"""
