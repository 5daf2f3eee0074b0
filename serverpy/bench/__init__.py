"""The benchmark `serverpy bench`, which tests the claims of the founding document on this machine, only over HTTP."""
