"""May a precision be trusted on the machine at hand? Its scores and its rate against fp32."""
