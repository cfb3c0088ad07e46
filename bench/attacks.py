"""./dev bench attacks [--json] [--loads N]: every script of tests/attacks, and for each case what became of it here and in
Transformers, told by files that the attacker's code would have left and by strace. N loads (10,000) are raced by a process that
swaps files under them.

usage: attacks.py BUILD_FOLDER [--json] [--loads N]
"""
import argparse, collections, json, os, pathlib, subprocess, sys, tempfile, time

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent / "tests/attacks"))
from _report import CLASSES  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("build", type=lambda path: pathlib.Path(path).resolve())
parser.add_argument("--json", action="store_true")
parser.add_argument("--loads", type=int, default=10000)
options = parser.parse_args()
report = pathlib.Path(tempfile.mkdtemp()) / "report"
environment = os.environ | {"ATTACKS_REPORT": str(report), "ATTACKS_LOADS": str(options.loads),
                            "PRETRAINED_COMMAND": str(options.build / "bin/pretrained"),
                            "PRETRAINED_HUB": str(options.build / "bin/pretrained-hub"),
                            "PRETRAINED_CODE_TOOL": str(options.build / "bin/code_tool")}
failed = []
for script in sorted((here.parent / "tests/attacks").glob("[!_]*.py")):
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-W", "ignore::ResourceWarning", script], env=environment, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    print(f"{script.name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        failed.append(script.name)

rows = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
rows.sort(key=lambda row: int(row["class"][1:]))


def counted(texts):
    return ", ".join(f"{count} {text}" for text, count in collections.Counter(texts).most_common())


def print_scoreboard():
    for attack, (title, reason) in CLASSES.items():
        cases = [row for row in rows if row["class"] == attack]
        compared = [row["transformers"] for row in cases if not row["transformers"].startswith("does not apply")]
        print(f"\n{attack:4} {title}: {len(cases)} cases")
        print(f"     ours:         {counted(row['ours'] for row in cases)}")
        print(f"     Transformers: {counted(compared) or 'does not apply: ' + (reason or '')}")
        for row in cases:
            theirs = "–" if row["transformers"].startswith("does not apply") else row["transformers"]
            print(f"       {row['case'][:64]:64} {row['ours'][:34]:34} {theirs}")
    compared = [row["transformers"] for row in rows if not row["transformers"].startswith("does not apply")]
    print(f"\n{len(rows)} cases in {len({row['class'] for row in rows})} of {len(CLASSES)} classes; executed here: "
          f"{sum(row['ours'] == 'executed' for row in rows)}. Of the {len(compared)} that Transformers was tried with it executed "
          f"{sum(text == 'executed' for text in compared)} and took {sum(text == 'loaded' for text in compared)} more as they were.")
    print(f"{options.loads} loads raced by a process that swaps files under them: none won." if "cache.py" not in failed else
          "The race was lost, or not run: see above.")


print(json.dumps({"cases": rows, "failed": failed})) if options.json else print_scoreboard()
if failed:
    print("failed: " + ", ".join(failed), file=sys.stderr)
sys.exit(bool(failed))
