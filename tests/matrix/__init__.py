"""The fault matrix: failures of media servers, clients, processes and the machine, each by every method.

Each cell must end with the right bytes or with an honest failure, leave other clients unharmed, and leave nothing
behind. `make soak` runs every cell; the tests without the marker `soak` are about a fifth of them.
"""
