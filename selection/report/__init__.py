"""`empathy report`: scores and selections as one page."""
