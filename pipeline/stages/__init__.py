"""The folds on Ray. Alone in the library, this room imports ray."""
