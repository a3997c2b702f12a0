"""Regallery's verbs: one entry point a file; arguments in, one call, a result to show."""
