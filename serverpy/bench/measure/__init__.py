"""Produces results: scenarios, the targets that they start, the clients that load them and the samplers that read
them."""
