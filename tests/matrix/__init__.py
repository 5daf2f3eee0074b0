"""Tests of faults of media servers, clients, processes and the machine, each with every streaming method (the fault
matrix).

A cell is a combination of a fault and a method. In each cell, the client must get the right bytes, a cut connection or
a documented error. Other clients must get every byte, and the server must release all resources. `make soak` runs every
cell. The tests without the marker `soak` run about a fifth of the cells.
"""
