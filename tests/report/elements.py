"""What stands in a page of HTML."""

from html.parser import HTMLParser


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._within: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "style":
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.text += f"{data} "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self) -> str:
        """The text with one space between any two pieces."""
        return " ".join(self.text.split())
