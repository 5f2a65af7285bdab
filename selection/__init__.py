"""From scores to training sets."""
