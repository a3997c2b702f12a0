"""The mathematics: arrays in, arrays out. No ray, no files, no clock, no logging."""
