"""The measurements of the bench: scenarios start the servers under test, clients load these servers, and samplers read
the memory and CPU time of the servers' processes."""
