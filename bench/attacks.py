"""./dev bench attacks [--json]: every script of tests/attacks, and for each case that Transformers can be tried with too what
became of it here and there, told by a file that the attacker's code would have left.

usage: attacks.py BUILD_FOLDER [--json]
"""
import collections, json, os, pathlib, subprocess, sys, tempfile

here = pathlib.Path(__file__).resolve().parent
build = pathlib.Path(sys.argv[1]).resolve()
as_json = "--json" in sys.argv[2:]
report = pathlib.Path(tempfile.mkdtemp()) / "report"
environment = os.environ | {"ATTACKS_REPORT": str(report), "PRETRAINED_COMMAND": str(build / "bin/pretrained"),
                            "PRETRAINED_HUB": str(build / "bin/pretrained-hub"), "PRETRAINED_CODE_TOOL": str(build / "bin/code_tool")}
failed = []
for script in sorted((here.parent / "tests/attacks").glob("[!_]*.py")):
    print(f"{script.name} …", file=sys.stderr, flush=True)
    if subprocess.run([sys.executable, script], env=environment, stderr=None if not as_json else subprocess.DEVNULL).returncode:
        failed.append(script.name)

rows = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
rows.sort(key=lambda row: int(row["class"][1:]))
if as_json:
    print(json.dumps({"cases": rows, "failed": failed}))
else:
    print(f"\n{'':4} {'attack':44} {'ours':10} transformers")
    for row in rows:
        print(f"{row['class']:4} {row['case'][:44]:44} {row['ours']:10} {row['transformers']}")
    compared = [row for row in rows if row["transformers"] != "does not apply"]
    both = collections.Counter((row["ours"] == "executed", row["transformers"] == "executed") for row in compared)
    print(f"\n{len(rows)} cases; executed here: {sum(row['ours'] == 'executed' for row in rows)}. Of the {len(compared)} that "
          f"Transformers was tried with it executed {both[False, True] + both[True, True]}.")
    if failed:
        print("failed: " + ", ".join(failed))
sys.exit(bool(failed))
