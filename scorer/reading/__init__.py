"""From an input to windows of token ids: all that is done before the network runs."""
