"""`serverpy bench`: measures on this machine the claims of the founding document, from outside and only over HTTP."""
