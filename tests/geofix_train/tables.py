"""Tables of Markdown, read back."""


def rows_of(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the tables below a heading, without the rule of the first."""
    _, _, rest = text.partition(f"## {heading}")
    lines = [line for line in rest.split("\n## ")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [cells[0], *cells[2:]]
