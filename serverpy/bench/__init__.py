"""`serverpy bench`: measures on this machine what the founding document claims, from outside and only over HTTP."""
