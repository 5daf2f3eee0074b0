"""The benchmark `serverpy bench`, which tests the claims of ServerPY's founding document on this machine. It drives
every measured server only over HTTP."""
