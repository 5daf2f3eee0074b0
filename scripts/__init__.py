"""Measurements that are run by hand; each module says how. They form a package only so that tests can import them."""
