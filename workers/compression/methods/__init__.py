"""One module a method, one explicit table of them."""
