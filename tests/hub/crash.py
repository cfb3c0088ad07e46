"""kill -9 at random moments of mixed writes; then nothing acknowledged is lost and nothing half-written is visible.
usage: crash.py [KILLS]   (50 unless HUB_CRASH_KILLS or the argument says otherwise)"""
import base64, hashlib, http.client, json, os, pathlib, random, shutil, signal, subprocess, sys, tempfile, threading, time, urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness

KILLS = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HUB_CRASH_KILLS", 50))
SEED = int(os.environ.get("HUB_CRASH_SEED", random.randrange(1 << 30)))
print("seed", SEED, flush=True)


class Writer(threading.Thread):
    """One client of one repository: small commits, large objects, branches, tags, pushes. Remembers what was acknowledged."""

    def __init__(self, hub, number):
        super().__init__(daemon=True)
        self.hub, self.name, self.random = hub, f"admin/c{number}", random.Random(SEED + number)
        self.files, self.refs, self.stopping, self.done, self.errors = {}, {}, False, 0, []  # files: path → what it may hold

    def call(self, method, path, body=None, headers={}):
        return self.hub.call(method, path, self.hub.admin, body, headers)

    def run(self):
        while not self.stopping:
            action = self.random.choice([self.small, self.small, self.large, self.branch, self.tag])
            try:
                action()
                self.done += 1
            except (OSError, http.client.HTTPException, urllib.error.URLError):
                time.sleep(0.02)
            except AssertionError as error:
                self.errors.append(str(error))
                return

    def commit(self, lines, path, digest):
        body = "\n".join(json.dumps(line) for line in [{"key": "header", "value": {"summary": "c"}}, *lines]).encode()
        self.files.setdefault(path, {None}).add(digest)  # until there is an answer either may be
        status, _, answer = self.call("POST", f"/api/models/{self.name}/commit/main", body, {"Content-Type": "application/x-ndjson"})
        assert status in (200, 503), (status, answer)
        if status == 200:
            self.files[path] = {digest}
            self.refs["refs/heads/main"] = answer["commitOid"]

    def small(self):
        content = self.random.randbytes(self.random.randrange(1, self.random.choice([2000, 300_000])))
        path = f"s/{self.random.randrange(30)}.txt"
        self.commit([{"key": "file", "value": {"path": path, "encoding": "base64", "content": base64.b64encode(content).decode()}}],
                    path, hashlib.sha256(content).hexdigest())

    def large(self):
        content = self.random.randbytes(self.random.randrange(20_000, 3_000_000))
        oid = hashlib.sha256(content).hexdigest()
        kind = {"Content-Type": "application/vnd.git-lfs+json", "Accept": "application/vnd.git-lfs+json"}
        status, _, batch = self.call("POST", f"/{self.name}.git/info/lfs/objects/batch", {
            "operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(content)}], "hash_algo": "sha256"}, kind)
        assert status == 200, (status, batch)
        batch = json.loads(batch) if isinstance(batch, bytes) else batch
        href = batch["objects"][0]["actions"]["upload"]["href"]
        status, _, answer = self.hub.call("PUT", href[href.index("/", 8):], None, content)
        assert status == 200, (status, answer)
        path = f"l/{self.random.randrange(10)}.bin"
        self.commit([{"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid, "size": len(content)}}], path, oid)

    def branch(self):
        name = f"b{self.done}-{self.random.randrange(1 << 30)}"
        status, _, answer = self.call("POST", f"/api/models/{self.name}/branch/{name}", {})
        assert status == 200, (status, answer)
        self.refs[f"refs/heads/{name}"] = None

    def tag(self):
        name = f"t{self.done}-{self.random.randrange(1 << 30)}"
        status, _, answer = self.call("POST", f"/api/models/{self.name}/tag/main", {"tag": name})
        assert status == 200, (status, answer)
        self.refs[f"refs/tags/{name}"] = None


def check(hub, writer):
    """Reads back through the API everything that was acknowledged."""
    refs = writer.call("GET", f"/api/models/{writer.name}/refs")[2]
    there = {r["ref"] for r in refs["branches"] + refs["tags"]}
    lost = set(writer.refs) - there
    assert not lost, f"{writer.name}: references lost: {lost}"
    if commit := writer.refs.get("refs/heads/main"):
        assert writer.call("GET", f"/api/models/{writer.name}/revision/{commit}")[0] == 200, f"commit {commit} lost"
    for path, possible in list(writer.files.items()):
        status, _, content = hub.call("GET", f"/{writer.name}/resolve/main/{path}", hub.admin, raw=True)
        if status == 404:
            assert None in possible, f"{writer.name}/{path} lost"
            continue
        assert status == 200, (status, content[:200])
        digest = hashlib.sha256(content).hexdigest()
        assert digest in possible, f"{writer.name}/{path}: bytes of no acknowledged write"
        writer.files[path] = {digest}


def main(hub):
    dice = random.Random(SEED)
    names = range(4)
    for i in names:
        assert hub.call("POST", "/api/repos/create", hub.admin, {"name": f"c{i}"})[0] == 200
    writers = [Writer(hub, i) for i in names]
    [w.start() for w in writers]
    for kill in range(KILLS):
        time.sleep(dice.uniform(0.05, 0.9))
        hub.stop(signal.SIGKILL)
        if dice.random() < 0.3:
            shutil.rmtree(hub.data / "cache", ignore_errors=True)
        hub.start()
        errors = [e for w in writers for e in w.errors]
        assert not errors, errors
        if kill % 10 == 9:
            print(f"{kill + 1} kills, {sum(w.done for w in writers)} acknowledged writes", flush=True)
    for writer in writers:
        writer.stopping = True
    [w.join() for w in writers]
    for writer in writers:
        check(hub, writer)
    hub.cli("gc")
    for writer in writers:
        check(hub, writer)
    problems = hub.cli("fsck", expect=0)["problems"]
    assert not problems, problems
    total = sum(w.done for w in writers)
    assert total > KILLS, f"only {total} writes were acknowledged: nothing was tested"
    print(f"{KILLS} kills, {total} acknowledged writes, nothing lost")


hub = harness.Hub("--workers", "16")
try:
    main(hub)
finally:
    hub.close()
