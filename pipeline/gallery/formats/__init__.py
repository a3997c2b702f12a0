"""Features in the formats of other tools."""
