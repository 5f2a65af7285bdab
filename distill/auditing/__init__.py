"""A scored corpus audited by a few of the judge's labels, and a scorer adapted to them."""
