"""A drawn archive of people under cameras, for the demo and the tests."""

__all__ = ["drawing", "passages"]
