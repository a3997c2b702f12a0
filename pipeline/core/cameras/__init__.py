"""Features without what their cameras add."""
