"""What must be true: rules with ids, severities and thresholds."""
