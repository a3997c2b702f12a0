"""The computations on Ray. Only this package of the library imports ray."""
