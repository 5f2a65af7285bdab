"""Selected sets as training examples of a causal model."""
