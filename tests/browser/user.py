"""Someone in front of the playground: finds things by what they are called, as a screen reader does."""

from dataclasses import dataclass, field
from typing import Any

DEADLINE_MS = 60_000
"""Of every wait; on a busy machine a page takes seconds."""


@dataclass
class User:
    """`page` is Playwright's; `complaints` is what the browser wrote into its console."""

    page: Any
    url: str
    complaints: list[str] = field(default_factory=list)
    addresses: set[str] = field(default_factory=set)
    """Of everything that the page asked for."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(DEADLINE_MS)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.addresses.add(request.url))

    def open(self) -> "User":
        """Open the page and wait until it knows its endpoint, or says why not."""
        self.page.goto(self.url)
        self.page.locator("#facts li, #notice:not([hidden])").first.wait_for()
        return self

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def message(self) -> Any:
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def answers(self) -> Any:
        return self.page.get_by_role("article")

    @property
    def alert(self) -> Any:
        """The errors that show."""
        return self.page.get_by_role("alert").filter(visible=True)

    @property
    def spoken(self) -> list[str]:
        """What a screen reader was told, oldest first, by the status region."""
        texts: list[str] = self.page.locator("#status p").all_inner_texts()
        return texts

    def begin(self, text: str) -> Any:
        """Send a message by keyboard; the newest answer, which still comes."""
        answers = self.answers.count()
        self.message.fill(text)
        self.message.press("Enter")
        self.answers.nth(answers).wait_for()
        return self.answers.last

    def ask(self, text: str) -> Any:
        """Send a message and wait until all is said; the newest answer."""
        answer = self.begin(text)
        self.wait()
        return answer

    def wait(self) -> None:
        """Until no answer comes any more."""
        self.button("Send").wait_for()
