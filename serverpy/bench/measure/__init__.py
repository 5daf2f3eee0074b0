"""Runs the benchmark: scenarios start targets, clients load the targets, and samplers read their memory and CPU."""
