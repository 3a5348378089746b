"""What the datastores in buckets share: the store over obstore, its settings, and what its errors mean."""
