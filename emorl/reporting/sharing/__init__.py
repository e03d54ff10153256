"""Results for others: a bundle for an archive, and the check that finds its every number again."""
