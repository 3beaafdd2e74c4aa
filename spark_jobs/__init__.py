"""How each table is computed: one module per output table; each runs alone as a job too."""
