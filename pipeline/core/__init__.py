"""The mathematics: arrays in, arrays out. No Ray, no files, no clock, no logging."""

from pipeline.core.processor import restrict_numba

restrict_numba()
