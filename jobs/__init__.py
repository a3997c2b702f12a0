"""One entry point a file, one verb each; they compose stages and hold no mathematics."""
