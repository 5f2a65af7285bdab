"""What runs a batch of token ids: one small protocol, one module per engine, and the rule that chooses one."""
