"""Programs that measure, and the records that they leave in `results/`."""
