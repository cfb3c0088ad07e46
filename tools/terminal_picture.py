"""A picture (SVG) of a real terminal session, for README. Runs each command in a terminal of its own and draws what it printed.

usage: terminal_picture.py OUT.svg TITLE COMMAND…      each COMMAND is one line of shell
needs: pip install rich
"""
import os, pty, re, subprocess, sys

from rich.console import Console
from rich.text import Text

WIDTH = 110


def run_in_terminal(command):
    master, slave = pty.openpty()
    process = subprocess.Popen(["bash", "-c", f"stty cols {WIDTH} -echo; {command}"], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    output = b""
    try:
        while part := os.read(master, 65536):
            output += part
    except OSError:  # Linux: the other side is closed
        pass
    process.wait()
    return output.decode()


def what_remains(output):
    """The lines as they stand at the end, without what a progress bar drew over."""
    lines = []
    for line in output.replace("\r\n", "\n").rstrip("\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            part = re.sub(r"\x1b\[K", "\0", part)
            if part:
                shown = part + shown[len(part):] if "\0" not in part else part.replace("\0", "")
        lines.append(shown)
    return "\n".join(lines)


out, title, *commands = sys.argv[1:]
console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True, color_system="truecolor")
for command in commands:
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    console.print(Text.from_ansi(what_remains(run_in_terminal(command))))
svg = console.export_svg(title=title)
svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)  # nothing is loaded from elsewhere
open(out, "w").write("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
