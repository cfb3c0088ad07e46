"""./dev bench transfer: repositories up and down, our command against Python's `hf`, on the same hub."""
import math
import os
import pathlib
import shutil
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "tests" / name) for name in ("hub", "client")]
from slow_proxy import SlowProxy


class Bench:
    def __init__(self, build, work, runs, row):
        os.environ["PRETRAINED_HUB"] = str(build / "bin/pretrained-hub")
        import harness
        self.harness, self.runs, self.row = harness, runs, row
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="transfer-", dir=work))
        self.hub = harness.Hub("--workers", "40")
        self.commands = {"ours": [build / "bin/pretrained"], "peer": [pathlib.Path(harness.PYTHON).with_name("hf")]}
        self.count = 0

    def fresh(self, name):
        self.count += 1
        folder = self.work / f"{name}-{self.count}"
        folder.mkdir()
        return folder

    def run(self, side, *words, home=None, **environment):
        """Seconds of one command; without a home, in a fresh one."""
        env = self.hub.env(self.hub.admin, home or self.fresh("home"), **environment)
        start = time.perf_counter()
        self.harness.run(*self.commands[side], *words, env=env, timeout=1200)
        return time.perf_counter() - start

    def both(self, case, measure, target=1.5, unit="s"):
        times = {"ours": [], "peer": []}
        for _ in range(self.runs):
            for side in times:
                times[side].append(measure(side))
        self.row(case, times["ours"], times["peer"], "hf", unit, target)

    def repo(self):
        self.count += 1
        return f"admin/transfer-{self.count}"

    def large_folder(self, size):
        folder = self.fresh("large")
        with open(folder / "model.safetensors", "wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        (folder / "config.json").write_text("{}")
        return folder

    def small_folder(self, files):
        folder = self.fresh("small")
        for i in range(files):
            path = folder / f"part-{i // 100:02}/{i:04}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(os.urandom(1000 + i % 7 * 500).hex())
        return folder

    def repository(self, what, make, target=1.5):
        """Up into a new repository, up again unchanged, down into an empty cache, down again."""
        uploaded = {}

        def up(side):
            folder, repo = make(), self.repo()
            home = self.fresh("home")
            seconds = self.run(side, "upload", repo, folder, home=home)
            if side in uploaded:
                shutil.rmtree(uploaded[side][0])
            uploaded[side] = folder, repo, home
            return seconds

        self.both(f"{what}: upload", up, target)
        self.both(f"{what}: upload again, nothing changed", lambda side: self.run(side, "upload", uploaded[side][1], uploaded[side][0], home=uploaded[side][2]), target)
        repo, homes = uploaded["peer"][1], {}

        def down(side):
            if side in homes:
                shutil.rmtree(homes[side])
            homes[side] = self.fresh("home")
            return self.run(side, "download", repo, home=homes[side])

        self.both(f"{what}: download", down, target)
        self.both(f"{what}: download again, all cached", lambda side: self.run(side, "download", repo, home=homes[side]), target)
        for folder, _, home in uploaded.values():
            shutil.rmtree(folder)
            shutil.rmtree(home, ignore_errors=True)
        for home in homes.values():
            shutil.rmtree(home)

    def large(self):
        self.repository("one file of 1 GB", lambda: self.large_folder(1 << 30))

    def small(self):
        self.repository("2,000 small files", lambda: self.small_folder(2000))

    def checkpoint(self):
        """A fine-tuned checkpoint: one of eight layers differs. Time, and bytes through a relay that counts them."""
        base = self.large_folder(256 << 20)
        weights = (base / "model.safetensors").read_bytes()
        relay = SlowProxy(self.hub.port, math.inf, piece=1 << 18)  # counts, and slows nothing down
        moved = {"ours": {"up": [], "down": []}, "peer": {"up": [], "down": []}}

        def change(side):
            repo, home = self.repo(), self.fresh("home")
            (base / "model.safetensors").write_bytes(weights)
            self.run(side, "upload", repo, base, home=home)
            reader = self.fresh("reader")
            self.run(side, "download", repo, home=reader)
            (base / "model.safetensors").write_bytes(weights[:96 << 20] + os.urandom(32 << 20) + weights[128 << 20:])
            before = relay.sent, relay.received
            seconds = self.run(side, "upload", repo, base, home=home, HF_ENDPOINT=relay.url)
            moved[side]["up"].append((relay.sent - before[0]) / 1e6)
            before = relay.received
            self.run(side, "download", repo, home=reader, HF_ENDPOINT=relay.url)
            moved[side]["down"].append((relay.received - before) / 1e6)
            return seconds

        self.both("checkpoint of 256 MB, one layer of eight changed: upload", change, None)
        for way in ("up", "down"):
            self.row(f"the same, bytes {'sent up' if way == 'up' else 'fetched down'}", moved["ours"][way], moved["peer"][way], "hf", "MB", None)


def bench(build, work, runs, row, only=()):
    bench = Bench(build, work, runs, row)
    try:
        for name in only or ("large", "small", "checkpoint"):
            print(f"… {name}", file=sys.stderr, flush=True)
            getattr(bench, name)()
    finally:
        bench.hub.close()
        shutil.rmtree(bench.work, ignore_errors=True)
