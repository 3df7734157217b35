"""The vocabulary in which tables are declared: rows, columns, rights, references."""
