"""Every #include "pretrained/<room>/…" is one that cmake/rooms.txt allows, and no file is longer than 800 lines."""
import pathlib, re, sys

root = pathlib.Path(__file__).resolve().parent.parent
allowed = {}
for line in (root / "cmake/rooms.txt").read_text().splitlines():
    if line and not line.startswith("#"):
        room, _, *others = line.split()
        allowed[room] = {room, *others}
problems = []
for folder in [*(root / "pretrained").iterdir(), root / "cli"]:
    if not folder.is_dir():
        continue
    room = folder.name
    if room not in allowed:
        problems.append(f"pretrained/{room} is not in cmake/rooms.txt")
        continue
    for file in [*folder.glob("*.h"), *folder.glob("*.cpp")]:
        text = file.read_text()
        if text.count("\n") > 800:
            problems.append(f"{file.relative_to(root)}: {text.count(chr(10))} lines, at most 800")
        for other in re.findall(r'#include [<"]pretrained/(\w+)/', text):
            if other not in allowed[room]:
                problems.append(f"{file.relative_to(root)}: room '{room}' may not include room '{other}'")
print("\n".join(problems) or "every include is allowed")
sys.exit(bool(problems))
