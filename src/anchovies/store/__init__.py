"""What is kept: the datastore, the log, data files, tables, task logs, the lease."""
