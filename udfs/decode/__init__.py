"""From the bytes of a recording to rows by table, with the fate of every byte range."""
