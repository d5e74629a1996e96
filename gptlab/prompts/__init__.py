"""A conversation -> text, with the parts that are learned."""
