"""Rows linked to candidates of identities."""
