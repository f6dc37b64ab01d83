"""Records in files for people and programs: CSV, XLSX and JSON Lines, written as they are read."""
