"""Every #include of a room is one that its table allows (cmake/rooms.txt, server/dependencies.txt), and no file is longer
than 800 lines."""
import pathlib, re, sys

root = pathlib.Path(__file__).resolve().parent.parent


def table(path, skip):
    rows = [line.split() for line in (root / path).read_text().splitlines() if line and not line.startswith("#")]
    return {room: {room, *others[skip:]} for room, *others in rows}


def check(folders, allowed, includes):
    for folder in folders:
        room = folder.name
        if not folder.is_dir():
            continue
        if room not in allowed:
            yield f"{folder.relative_to(root)} is in no table of rooms"
            continue
        for file in [*folder.glob("*.h"), *folder.glob("*.cpp")]:
            text = file.read_text()
            if text.count("\n") > 800:
                yield f"{file.relative_to(root)}: {text.count(chr(10))} lines, at most 800"
            for other in re.findall(includes, text):
                if other not in allowed[room]:
                    yield f"{file.relative_to(root)}: room '{room}' may not include room '{other}'"


problems = [
    *check([*(root / "pretrained").iterdir(), root / "cli", root / "cli/torch"], table("cmake/rooms.txt", 1), r'#include [<"]pretrained/(\w+)/'),
    *check((root / "server").iterdir(), table("server/dependencies.txt", 0), r'#include "(?:server|pretrained)/(\w+)/'),
]
print("\n".join(problems) or "every include is allowed")
sys.exit(bool(problems))
