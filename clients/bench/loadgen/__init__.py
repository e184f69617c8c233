"""MLPerf's four scenarios by its own LoadGen, beside our loops."""
