"""Measurements and checks that a developer runs by hand; each module says how. They form a package only so that tests
can import them."""
