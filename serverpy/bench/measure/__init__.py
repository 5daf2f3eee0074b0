"""The measurements: scenarios start targets, clients load the targets, and samplers read the targets' memory and
CPU."""
