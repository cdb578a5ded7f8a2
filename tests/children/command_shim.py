"""Has a command run by ``command_server.py``, and ends as it ends. It imports next to nothing: that is its point."""

import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    said = [
        str(len(sys.argv) - 2),
        os.getcwd(),  # noqa: PTH109 - pathlib takes as long as all the rest
        *sys.argv[2:],
        *(f"{name}={value}" for name, value in os.environ.items()),
    ]
    body = os.fsencode("\0".join(said))
    socket.send_fds(server, [len(body).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(body)
    code = server.recv(1)
sys.exit(code[0] if code else 70)
