"""A text on the command line, which Hydra would read its own way."""


def take_text(key: str, overrides: list[str]) -> tuple[str | None, list[str]]:
    """`key=TEXT` as it was typed, commas, brackets and all, None where it was not; and the overrides that are left."""
    typed = [word.partition("=")[2] for word in overrides if word.startswith(f"{key}=")]
    if not typed:
        return None, overrides
    text = typed[-1]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]  # somebody knows that Hydra wants such text quoted
    return text, [word for word in overrides if not word.startswith(f"{key}=")]
