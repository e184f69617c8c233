"""Requests that no client of good will sends, each made from (seed, number) so that it can be sent again."""
