"""What the command line shows: pure functions from data to a small page model, and the screen that prints it.

Nothing here imports rich before a terminal is written to: ``callboard --help`` must be there in 0.3 s, and a pipe gets
plain lines.
"""
