"""Where a registry's bytes lie: one port (``port``), in memory, in a folder, in an S3 bucket."""
