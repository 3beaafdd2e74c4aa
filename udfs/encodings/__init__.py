"""From message payloads to Arrow columns, all messages of a channel at once."""
