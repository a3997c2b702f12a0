"""The files of a gallery and how they are written."""
