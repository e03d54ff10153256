"""The page that gathers the artifacts of a scale, and the way from each number back to its runs."""
