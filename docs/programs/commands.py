"""Write docs/reference/commands.md: every command's help, as the program prints it.

`python docs/programs/commands.py`, after a command or an option has changed.
"""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command

from nucleate.cli import app
from nucleate.cli.common import leaves

PAGE = Path(__file__).parents[1] / "reference" / "commands.md"
WIDTH = 100
HEAD = """# Every command and option

Written by `docs/programs/commands.py`. Open a command to see its options and examples.
"""


def main() -> None:
    """Write the page."""
    text = HEAD
    for words, command in leaves(get_command(app)):
        name = " ".join(("nucleate", *words))
        context = command.make_context(name, [], resilient_parsing=True)
        context.terminal_width = context.max_content_width = WIDTH
        printed = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        first = (command.help or "").strip().split("\n\n")[0]
        text += (
            f'\n## {name}\n\n<details markdown="1"><summary>{first}</summary>\n\n'
            f"```text\n{printed}\n```\n\n</details>\n"
        )
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
