"""What a table, an identity, a clock and an error are. Imports no other folder and does no I/O."""
