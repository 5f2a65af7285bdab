"""Labels -> a calibrated checkpoint, measured on held-out conversations."""
