"""Duties of the cluster that one node does at a time: whoever holds the lease ``leader`` (``bus.lease``).

- ``leader``: wants the lease, and does the duties while it is held;
- ``term``: one time as leader, and the fence for what is written during it;
- ``roll``, ``node_watch``: which nodes are there, ``node.lost`` and ``node.returned``;
- ``open_jobs``, ``stuck_jobs``: jobs that nobody runs although nothing keeps them from it.
"""
