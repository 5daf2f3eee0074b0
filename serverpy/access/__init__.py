"""The rights and limits of clients: API keys, sessions, signed links, rate limits and quotas. This package does not
import FastAPI: `api/access.py` passes it the method, path and header fields of each request."""
