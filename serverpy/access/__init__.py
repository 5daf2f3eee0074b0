"""The rights and limits of clients: keys, signed links, rates and quotas. Of HTTP, this package knows only the header
fields that carry credentials; `api/access.py` applies the package to requests."""
