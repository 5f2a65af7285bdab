"""A tokenizer.json: which parts it may have, and that its ids are ones of the model."""
