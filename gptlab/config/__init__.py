"""From what a person types to a checked configuration, and from that to objects."""
