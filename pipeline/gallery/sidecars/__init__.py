"""What is kept beside the rows: plans, calibrations, graphs."""
