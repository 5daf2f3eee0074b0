"""Package of measurements and checks that a developer runs by hand. The docstring of each module says how to run it.
The scripts form a package only so that tests can import them."""
