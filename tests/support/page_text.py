"""What a reader meets on a page: its title, its words before anything is unfolded, its tables."""

from __future__ import annotations

from html.parser import HTMLParser


class ReadPage(HTMLParser):
    """Words and tables of a page, as HTML has them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title = ""
        self.words_before_unfolding: list[str] = []
        self.tables: list[list[list[str]]] = []
        """Rows of cells of each table, its head first."""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("details", "summary", "script", "style", "h1", "title"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._open = [one for one in self._open if one != "cell"] + ["cell"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._open = [one for one in self._open if one != "cell"]
        if tag in self._open:
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag)]

    def handle_data(self, data: str) -> None:
        if {"script", "style", "title"} & set(self._open):
            return
        if "h1" in self._open:
            self.title += data
        if "cell" in self._open:
            self.tables[-1][-1][-1] += data.strip()
        folded = self._open.count("details")
        if folded == 0 or (folded == 1 and "summary" in self._open):
            self.words_before_unfolding += data.split()

    def table(self, *heads: str) -> list[dict[str, str]]:
        """Rows of the first table that has all these heads, each by its heads."""
        for head, *rows in self.tables:
            if set(heads) <= set(head):
                return [dict(zip(head, row, strict=True)) for row in rows]
        raise AssertionError(f"no table has {heads}: {[table[0] for table in self.tables]}")
