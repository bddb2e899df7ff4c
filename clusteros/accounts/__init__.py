"""People: the uid under which a user's jobs run, and the tokens with which scripts speak for them."""
