"""Measurements that are run by hand: each module says how. A package only so that tests can import them."""
