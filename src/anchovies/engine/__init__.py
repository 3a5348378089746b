"""The engine: sessions, batches, tasks, deadlines; it conducts the road of a row."""
