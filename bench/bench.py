"""./dev bench [start|load|code|isolation|xet|hub|transfer] [--json] [--runs N]: ours and the peer in one run, interleaved; medians and their ratio.

usage: bench.py BUILD_FOLDER [NAME…]
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
parser.add_argument("build")
parser.add_argument("names", nargs="*", help="start, load, code, isolation, xet, hub, transfer; all without a name")
parser.add_argument("--json", action="store_true")
parser.add_argument("--runs", type=int, default=5)
options = parser.parse_args()

here = pathlib.Path(__file__).resolve().parent
build = pathlib.Path(options.build).resolve()
work = build.parent / "bench"
work.mkdir(parents=True, exist_ok=True)
os.environ["PRETRAINED_CODE_CACHE"] = str(work / "code")
os.environ["PRETRAINED_TRUST_FILE"] = str(work / "trust.json")
(work / "trust.json").unlink(missing_ok=True)
os.environ["HF_MODULES_CACHE"] = str(work / "modules")
os.environ["PYTHONDONTWRITEBYTECODE"] = ""
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
OURS = [str(build / "bin/bench_tool")]
PEER = [sys.executable, str(here / "peer.py")]
rows = []


def measure(argv, environment=None):
    """(wall seconds, peak MB, numbers printed)"""
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               env={**os.environ, **(environment or {})})
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"bench: {' '.join(map(str, argv))} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024, [float(x) for x in output.split()]


def row(case, ours, peer, peer_name, unit, target, at_most=None):
    ours, peer = statistics.median(ours), statistics.median(peer) if peer else None
    ratio = peer / ours if peer else None
    ok = (ratio is None or target is None or ratio >= target) and (at_most is None or ours <= at_most)
    goal = "" if target is None and at_most is None else f"≥ {target:.3g}×" if target is not None else f"≤ {at_most} {unit}"
    rows.append({"case": case, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": ratio, "target": goal, "ok": ok})


def interleave(case, ours, peer, peer_name, target, inside, runs=None):
    sides = ([], []), ([], [])
    for _ in range(runs or options.runs):
        for side, argv in zip(sides, (ours, peer)):
            wall, peak, numbers = measure(argv)
            side[0].append(numbers[0] if inside else wall)
            side[1].append(peak)
    row(case, sides[0][0], sides[1][0], peer_name, "s", target)
    return sides[0][1], sides[1][1]


def bench_start():
    ours, peer = work / "resnet50d", work / "resnet50d-python"
    if not ours.exists():
        measure([*OURS, "make", ours])
        measure([*PEER, "make", peer])
    measure([*OURS, "start", ours])  # fills both code caches
    measure([*PEER, "start", peer])
    memory = interleave("process start → first logits, ResNet-50d with its code", [*OURS, "start", ours],
                        [*PEER, "start", peer], "transformers", 10, inside=False)
    row("the same, peak memory", *memory, "transformers", "MB", 2)
    construct = [measure([*side, "construct"])[2] for side in (OURS, PEER)]
    row("construct ResNet-50d for loading", *construct, "timm", "s", None, at_most=0.005)


def bench_load():
    for name, layers, hidden in (("100 MB", 25, 1024), ("2 GB", 32, 4096)):
        folder = work / f"large-{layers}-{hidden}"
        if not folder.exists():
            measure([*OURS, "make-large", folder, layers, hidden])
        file = folder / "model.safetensors"
        with open(file, "rb") as stream:  # both sides read from the page cache
            while stream.read(1 << 20):
                pass
        runs = options.runs if layers == 25 else min(options.runs, 3)
        for mode, model_target, file_target in (("ready", 20, None), ("touched", None, 1.0)):
            memory = interleave(f"{name} file → tensors, {mode}", [*OURS, "load", file, mode], [*PEER, "load", file, mode],
                                "safetensors load_file", file_target, inside=True, runs=runs)
            row(f"{name} file → tensors, {mode}, peak memory", *memory, "safetensors load_file", "MB", None)
            memory = interleave(f"{name} → model, {mode}", [*OURS, "model", folder, mode], [*PEER, "model", folder, mode],
                                "transformers", model_target, inside=True, runs=runs)
            row(f"{name} → model, {mode}, peak memory", *memory, "transformers", "MB", None)


def bench_code():
    folder = work / "resnet50d"
    if not folder.exists():
        measure([*OURS, "make", folder])
    cache = work / "code-bench"
    trust = work / "code-trust.json"  # of its own: other bytes than those that were trusted are refused
    environment = {"PRETRAINED_CODE_CACHE": str(cache), "PRETRAINED_TRUST_FILE": str(trust)}
    shutil.rmtree(cache, ignore_errors=True)
    trust.unlink(missing_ok=True)
    first_ever = measure([*OURS, "code", folder], environment)
    row("first load ever: precompiled header and compile", first_ever[2], None, "–", "s", None)
    header, source = here.parent / "examples/resnet_model/modeling_resnet.h", folder / "modeling_resnet.h"
    firsts, peaks = [], []
    for i in range(options.runs):
        source.write_text(header.read_text() + f"// {time.time()} {i}\n")  # new code each time
        trust.unlink(missing_ok=True)
        _, peak, numbers = measure([*OURS, "code", folder], environment)
        firsts += numbers
        peaks.append(peak)
    row("first load of new code (compile)", firsts, None, "–", "s", None, at_most=4.0)
    row("the same, peak memory (the compiler's)", peaks, None, "–", "MB", None)
    cached = [measure([*OURS, "code", folder], environment)[2][0] for _ in range(options.runs * 2)]
    registered = [measure([*OURS, "registered", folder])[2][0] for _ in range(options.runs * 2)]
    row("cached code on top of a registered class", [max(0.0, statistics.median(cached) - statistics.median(registered))], None, "–", "s",
        None, at_most=0.020)


def bench_isolation():
    folder = work / "resnet50d"
    if not folder.exists():
        measure([*OURS, "make", folder])
    pairs = [measure([*OURS, "isolation", folder])[2] for _ in range(options.runs)]
    row("8 images through ResNet-50d, isolated (peer: here)", [isolated for _, isolated in pairs], [here for here, _ in pairs], "in-process",
        "s", 1 / 1.05)
    small = work / "small-resnet"
    if not small.exists():
        measure([*OURS, "make", small, "small"])
    left = measure([*OURS, "cycles", small, 1000])[2]
    row("left of 1,000 isolated loads: memory", [left[0] / 1e6], None, "–", "MB", None, at_most=8)
    row("left of 1,000 isolated loads: descriptors", [left[1]], None, "–", "", None, at_most=0)


def bench_xet():
    import xet

    xet.bench(build, work, options.runs, measure, interleave, row)


def print_table():
    def number(value, unit):
        if value is None:
            return "–"
        if unit in ("MB", "/s", ""):
            return f"{value:.0f} {unit}"
        return f"{value * 1000:.2f} ms" if value < 1 else f"{value:.2f} s"

    width = max(len(r["case"]) for r in rows)
    print(f"{'case':{width}}  {'ours':>10}  {'peer':>10}  {'ratio':>8}  {'target':>9}  peer")
    for r in rows:
        ratio = "–" if r["ratio"] is None else f"{r['ratio']:.2f}×"
        mark = "" if not r["target"] else "ok" if r["ok"] else "MISSED"
        print(f"{r['case']:{width}}  {number(r['ours'], r['unit']):>10}  {number(r['peer'], r['unit']):>10}  {ratio:>8}  "
              f"{r['target']:>9}  {r['peer_name']}  {mark}")


def bench_hub():
    import hub

    hub.bench(build, work, options.runs, row)


def bench_transfer():
    import transfer

    transfer.bench(build, work, options.runs, row)


benches = {"start": bench_start, "load": bench_load, "code": bench_code, "isolation": bench_isolation, "xet": bench_xet,
           "hub": bench_hub, "transfer": bench_transfer}
for name in options.names or benches:
    if name not in benches:
        sys.exit(f"bench: no benchmark '{name}'; there are {', '.join(benches)}")
    benches[name]()
print(json.dumps(rows, indent=2, ensure_ascii=False) if options.json else "", end="")
if not options.json:
    print_table()
