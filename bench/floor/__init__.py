"""The floor: the job that Callboard runs, hand-written on bare nats-py with the same log and the same fencing.

It is what a good engineer would write for this one job and nothing else: no validation, no retries, no recovery after
a crash, no registry. So the distance between floor and system is the price of those, and of nothing else.
"""
