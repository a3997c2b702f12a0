"""The Parquet table of features: schema, unit files, transactions, versions."""
