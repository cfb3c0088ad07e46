"""./dev bench hub: a real pretrained-hub beside what its users would compare it with, in one run."""
import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/hub"))


def install_peers():
    missing = [p for p in ("nginx", "wrk") if not shutil.which(p)]
    if missing:
        packages = ["nginx-light" if p == "nginx" else p for p in missing]
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], check=True, stdout=subprocess.DEVNULL)


# Seconds of what a client does before it knows both names of a file.
HASHING = """
import hashlib, sys, time, hf_xet
start = time.perf_counter()
hf_xet.hash_files([sys.argv[1]])
with open(sys.argv[1], "rb") as file:
    hashlib.file_digest(file, "sha256")
print(time.perf_counter() - start)
"""


def peak_rss(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024


class Bench:
    def __init__(self, build, work, runs, row):
        os.environ["PRETRAINED_HUB"] = str(build / "bin/pretrained-hub")
        import harness
        self.harness, self.work, self.runs, self.row = harness, work, runs, row
        self.hub = harness.Hub("--workers", "80")
        self.token = self.hub.admin

    def create(self, name):
        status, _, body = self.hub.call("POST", "/api/repos/create", self.token, {"name": name})
        assert status == 200, body
        return f"admin/{name}"

    def put(self, repo, path, size=None, content=None, seed=0):
        """One large file by LFS, of bytes that nobody has; returns seconds of the PUT alone."""
        if content:
            size = len(content)
            parts = lambda: (content[i:i + (1 << 20)] for i in range(0, size, 1 << 20))
        else:
            parts = lambda: self.random_parts(size, seed)
        digest = hashlib.sha256()
        for part in parts():
            digest.update(part)
        kind = {"Content-Type": "application/vnd.git-lfs+json", "Accept": "application/vnd.git-lfs+json"}
        batch = self.hub.call("POST", f"/{repo}.git/info/lfs/objects/batch", self.token,
                              {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": digest.hexdigest(), "size": size}]}, kind)[2]
        batch = json.loads(batch) if isinstance(batch, bytes) else batch
        href = batch["objects"][0]["actions"]["upload"]["href"]
        connection = http.client.HTTPConnection("127.0.0.1", self.hub.port, timeout=600, blocksize=1 << 20)
        if size <= 512 << 20:  # making the bytes is not the hub's time
            ready = list(parts())
            parts = lambda: ready
        start = time.perf_counter()
        connection.putrequest("PUT", href[href.index("/", 8):])
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        for part in parts():
            connection.send(part)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        seconds = time.perf_counter() - start
        lines = [{"key": "header", "value": {"summary": path}},
                 {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": digest.hexdigest(), "size": size}}]
        self.commit(repo, lines)
        return seconds

    @staticmethod
    def random_parts(size, seed):
        """Noise at memory speed, the same for the same seed."""
        import numpy
        generator = numpy.random.Generator(numpy.random.SFC64(seed))
        for _ in range(size >> 20):
            yield generator.integers(0, 1 << 64, 1 << 17, dtype="uint64").tobytes()

    def commit(self, repo, lines, branch="main"):
        status, _, body = self.hub.call("POST", f"/api/models/{repo}/commit/{branch}", self.token,
                                        "\n".join(map(json.dumps, lines)).encode(), {"Content-Type": "application/x-ndjson"})
        assert status == 200, body
        return body["commitOid"]

    def file_line(self, path, content):
        return {"key": "file", "value": {"path": path, "encoding": "base64", "content": base64.b64encode(content).decode()}}

    def ingest(self):
        repo, ours, peer = self.create("ingest"), [], []
        size = 512 << 20
        for run in range(max(3, self.runs // 2)):
            ours.append(self.put(repo, f"{run}.bin", size, seed=run + 1))
            data = self.work / "ingest.bin"
            blocks = list(self.random_parts(size, run + 100))
            start = time.perf_counter()
            with open(data, "wb") as file:
                for block in blocks:
                    file.write(block)
                file.flush()
                os.fdatasync(file.fileno())
            write = time.perf_counter() - start
            hashing = subprocess.run([sys.executable, "-c", HASHING, data], check=True, capture_output=True, text=True).stdout
            peer.append(max(write, float(hashing)))
        self.row("durable ingest of 512 MB (LFS PUT)", ours, peer, "slower of hf_xet hashing + SHA-256, write + fdatasync", "s", 0.8)

    @contextlib.contextmanager
    def nginx(self, folder):
        """Serves a folder; gives its address."""
        install_peers()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(f"daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/e; events {{ worker_connections 512; }}\n"
                          f"user root; http {{ access_log off; sendfile on; tcp_nopush on; server {{ listen 127.0.0.1:{port}; root {folder}; }} }}")
        nginx = subprocess.Popen(["nginx", "-c", config, "-p", folder])
        try:
            time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            nginx.terminate()
            nginx.wait()

    def race(self, case, ours, peer, clients, first, last, name, target):
        """The same range of both addresses by turns, so many clients at once."""
        times = {ours: [], peer: []}
        for _ in range(max(self.runs, 15)):  # short, and so noisy
            for url in times:
                start = time.perf_counter()
                curls = [subprocess.Popen(["curl", "-s", "--noproxy", "*", "-r", f"{first}-{last}", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", url],
                                          stdout=subprocess.PIPE, text=True) for _ in range(clients)]
                answers = {c.communicate()[0] for c in curls}
                assert answers == {f"206 {last - first + 1}"}, answers
                times[url].append(time.perf_counter() - start)
        self.row(f"{case}, {clients} client{'s' * (clients > 1)}", times[ours], times[peer], name, "s", target)

    def download(self):
        repo, size = self.create("download"), 512 << 20
        self.put(repo, "large.bin", size, seed=99)
        folder = pathlib.Path(tempfile.mkdtemp())
        path = f"/{repo}/resolve/main/large.bin"
        subprocess.run(["curl", "-s", "--noproxy", "*", "-o", folder / "large.bin", self.hub.url + path], check=True)
        with self.nginx(folder) as peer:
            for clients, end in ((1, size), (64, 32 << 20)):
                self.race(f"GET {end >> 20} MB of a large file", self.hub.url + path, f"{peer}/large.bin", clients, 0, end - 1, "nginx, same file", 0.6)
            file = self.hub.call("HEAD", path, self.token)[1]["X-Xet-Hash"]
            token = self.hub.call("GET", f"/api/models/{repo}/xet-read-token/main", self.token)[2]
            found = self.hub.call("GET", f"/xet/v2/reconstructions/{file}", token["accessToken"])[2]
            name, [fetch, *_] = next(iter(found["xorbs"].items()))
            span = fetch["ranges"][0]["bytes"]
            [xorb] = (self.hub.data / "blobs/xorbs").rglob(name + ".*")
            shutil.copy(xorb, folder / "xorb")
            for clients, last in ((1, span["end"]), (64, span["start"] + (32 << 20) - 1)):
                self.race(f"xorb fetch of {(last + 1 - span['start']) >> 20} MB", fetch["url"], f"{peer}/xorb", clients, span["start"], last, "nginx, same range", 0.9)

    def metadata(self):
        install_peers()
        repo = self.create("metadata")
        self.commit(repo, [{"key": "header", "value": {"summary": "x"}}, self.file_line("config.json", b'{"model_type": "x"}')])
        for name, path in (("resolve config.json", f"/{repo}/resolve/main/config.json"), ("model info", f"/api/models/{repo}"),
                           ("tree", f"/api/models/{repo}/tree/main")):
            done = subprocess.run(["wrk", "-t2", "-c16", "-d4s", self.hub.url + path], capture_output=True, text=True, check=True)
            assert "Non-2xx" not in done.stdout, done.stdout
            rate = float(next(line for line in done.stdout.splitlines() if "Requests/sec" in line).split()[1])
            self.row(f"{name}, 16 clients", [rate], None, "–", "/s", None)

    def commits(self):
        for writers in (1, 16):
            repos = [self.create(f"commits-{writers}-{i}") for i in range(writers)]
            count = 200 // writers

            def work(repo):
                for k in range(count):
                    self.commit(repo, [{"key": "header", "value": {"summary": str(k)}}, self.file_line(f"{k}.txt", str(k).encode())])
            start = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(writers) as pool:
                list(pool.map(work, repos))
            self.row(f"HTTP commits, {writers} writer{'s' * (writers > 1)}", [writers * count / (time.perf_counter() - start)], None, "–", "/s", None)

    def flat_folder(self):
        repo = self.create("flat")
        lines = [{"key": "header", "value": {"summary": "10,000 files"}}, *(self.file_line(f"file-{i:05}.txt", f"file {i}\n".encode()) for i in range(10_000))]
        self.commit(repo, lines)
        times = []
        for k in range(1000):
            start = time.perf_counter()
            self.commit(repo, [{"key": "header", "value": {"summary": str(k)}}, self.file_line(f"file-{k * 7 % 10_000:05}.txt", f"change {k}\n".encode())])
            times.append(time.perf_counter() - start)
        self.row("commit to a flat folder of 10,000 files, the 1,000th", times[-100:], None, "–", "s", None)
        start = time.perf_counter()
        self.hub.call("GET", f"/api/models/{repo}/tree/main?expand=true&limit=50")
        self.row("its tree?expand, 50 a page", [time.perf_counter() - start], None, "–", "s", None)
        packs = lambda: sum(p.stat().st_size for p in (self.hub.data / "blobs/packs").rglob("*") if p.is_file()) / 1e6
        self.row("its packs before gc", [packs()], None, "–", "MB", None)
        self.hub.cli("gc")
        self.row("its packs after gc", [packs()], None, "–", "MB", None)
        start = time.perf_counter()
        subprocess.run(["git", "clone", "-q", "--bare", f"{self.hub.url}/{repo}", tempfile.mkdtemp() + "/c"], check=True)
        self.row("its clone", [time.perf_counter() - start], None, "–", "s", None)

    def dedup(self):
        import numpy
        rng = numpy.random.default_rng(1)
        layers = [rng.standard_normal(4_000_000).astype("float32") for _ in range(8)]
        repo = self.create("dedup")
        stored = lambda: sum(p.stat().st_size for p in (self.hub.data / "blobs/xorbs").rglob("*") if p.is_file())
        before = stored()
        self.put(repo, "a.bin", content=b"".join(x.tobytes() for x in layers))
        base = stored() - before
        layers[7] = rng.standard_normal(4_000_000).astype("float32")  # fine-tuned: one layer of eight
        self.put(repo, "b.bin", content=b"".join(x.tobytes() for x in layers))
        self.row("128 MB checkpoint, one layer of eight changed: bytes stored", [(stored() - before - base) / 1e6], [base / 1e6], "stored whole", "MB", 4)

    def python_client(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "weights.bin").write_bytes(os.urandom(256 << 20))
        for i in range(200):
            (folder / f"{i}.txt").write_text(f"file {i}")
        code = f"""
import json, time, tempfile
from huggingface_hub import HfApi, snapshot_download
api = HfApi()
api.create_repo("admin/python")
start = time.perf_counter()
api.upload_folder(folder_path={str(folder)!r}, repo_id="admin/python")
up = time.perf_counter() - start
start = time.perf_counter()
snapshot_download("admin/python", cache_dir=tempfile.mkdtemp())
print(json.dumps([up, time.perf_counter() - start]))
"""
        up, down = self.harness.run_python(code, self.hub.env(self.token))
        self.row("Python client uploads 256 MB + 200 files", [up], None, "–", "s", None)
        self.row("Python client downloads them", [down], None, "–", "s", None)

    def memory(self):
        self.hub.restart(15)
        repo = self.create("memory")
        with concurrent.futures.ThreadPoolExecutor(65) as pool:
            jobs = [pool.submit(self.put, repo, "eight.bin", 8 << 30, None, 250)]
            jobs += [pool.submit(self.put, self.create(f"memory-{i}"), "m.bin", 64 << 20, None, i) for i in range(64)]
            [job.result() for job in jobs]
        peak = peak_rss(self.hub.process.pid)
        self.row("peak memory, 64 uploads of 64 MB and one of 8 GB at once", [peak], None, "–", "MB", None, 512)


def bench(build, work, runs, row, only=()):
    bench = Bench(build, work, runs, row)
    try:
        for name in only or ("ingest", "download", "metadata", "commits", "flat_folder", "dedup", "python_client", "memory"):
            print(f"… {name}", file=sys.stderr, flush=True)
            getattr(bench, name)()
    finally:
        bench.hub.close()
