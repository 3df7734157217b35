"""Drivers, transactions, repositories, permissions, change feed, migrations: for whichever tables are declared."""
