"""Many opinions of one dialogue -> one label with less noise: of a reply's tokens, of several judges."""
