"""The schema, one numbered SQL file after the other; applied by `candlecast.database.migrate`."""
