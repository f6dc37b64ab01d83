"""A folder of files (CSV, spreadsheets, Parquet) as a source."""
