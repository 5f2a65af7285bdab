"""A checkpoint -> a bundle, each precision behind a gate."""
