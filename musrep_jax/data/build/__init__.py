"""Building data sets: records, shards, processes, locks."""
