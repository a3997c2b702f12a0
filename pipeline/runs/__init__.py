"""The work of each verb, as Python functions: open galleries, combine stages."""
