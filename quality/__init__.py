"""Quality: what must be true of every table, as rules, suites and contracts."""
