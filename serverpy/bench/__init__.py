"""`serverpy bench`: measures on this machine what is claimed, from outside, over HTTP alone."""
