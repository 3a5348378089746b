"""One file a database: how it is read."""
