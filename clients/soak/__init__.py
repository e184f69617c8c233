"""The proof that the server holds: long, hostile and overloaded runs against a `serve` of its own."""
