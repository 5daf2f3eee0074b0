"""Makes results: scenarios, the targets they start, and the clients and samplers that load and read them."""
