"""Two servers on one data folder: whatever goes in through one comes out of the other, and nothing is done twice."""
import base64, collections, http.server, json, pathlib, subprocess, sys, threading, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness
from harness import run, run_python

UPLOAD = """
import hashlib, json, os
from huggingface_hub import HfApi
api, digests = HfApi(), {{}}
for i in range({count}):
    content = {shared!r}.encode() * 100_000 + os.urandom(400_000)
    api.upload_file(path_or_fileobj=content, path_in_repo=f"{folder}/{{i}}.bin", repo_id="{repo}")
    digests[f"{folder}/{{i}}.bin"] = hashlib.sha256(content).hexdigest()
print(json.dumps(digests))
"""


class Receiver:
    """Counts the deliveries of a webhook by their number."""

    def __init__(self):
        self.seen, lock = collections.Counter(), threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.seen[self.headers["X-Webhook-Delivery"], event["event"]["scope"]] += 1
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class TwoServers(unittest.TestCase):
    def setUp(self):
        self.one = harness.Hub("--webhooks-to-private-addresses")
        self.addCleanup(self.one.close)
        self.two = harness.Hub("--webhooks-to-private-addresses", data=self.one.data)
        self.addCleanup(self.two.close)
        self.hubs = [self.one, self.two]

    def create(self, name):
        status, _, body = self.one.call("POST", "/api/repos/create", self.one.admin, {"name": name})
        self.assertEqual(status, 200, body)
        return f"admin/{name}"

    def commit(self, hub, repo, path, content):
        lines = [{"key": "header", "value": {"summary": path}},
                 {"key": "file", "value": {"path": path, "encoding": "base64", "content": base64.b64encode(content).decode()}}]
        return hub.call("POST", f"/api/models/{repo}/commit/main", hub.admin, "\n".join(map(json.dumps, lines)).encode(),
                        {"Content-Type": "application/x-ndjson"})

    def titles(self, hub, repo):
        titles, page = [], 0
        while part := hub.call("GET", f"/api/models/{repo}/commits/main?p={page}&limit=50", hub.admin)[2]:
            titles += [c["title"] for c in part]
            page += 1
        return titles

    def test_commits_in_turns_and_at_once(self):
        repo, receiver = self.create("w"), Receiver()
        self.addCleanup(receiver.close)
        status, _, hook = self.one.call("POST", "/api/settings/webhooks", self.one.admin, {
            "watched": [{"type": "user", "name": "admin"}], "url": receiver.url, "domains": ["repo"]})
        self.assertEqual(status, 200, hook)
        names = [f"turn{i}" for i in range(20)]
        for i, name in enumerate(names):
            self.assertEqual(self.commit(self.hubs[i % 2], repo, name, name.encode())[0], 200)
            # Acknowledged by one is there for the other, at once.
            self.assertEqual(self.hubs[1 - i % 2].call("GET", f"/{repo}/resolve/main/{name}", self.one.admin, raw=True)[2],
                             name.encode())
        codes = []

        def work(i):
            for k in range(6):
                name = f"once{i}-{k}"
                for attempt in range(20):
                    status = self.commit(self.hubs[i % 2], repo, name, name.encode())[0]
                    codes.append(status)
                    if status == 200:
                        names.append(name)
                        break
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(len(names), 20 + 48)
        self.assertLessEqual(set(codes), {200, 412})
        for hub in self.hubs:
            self.assertEqual(sorted(self.titles(hub, repo)), sorted([*names, "initial commit"]))
        deadline = time.time() + 300
        commits = lambda: {key: n for key, n in receiver.seen.items() if key[1] == "repo.content"}
        while len(commits()) < len(names) and time.time() < deadline:
            time.sleep(0.2)
        time.sleep(2)
        self.assertEqual(len(commits()), len(names))
        self.assertEqual(set(receiver.seen.values()), {1})
        self.assertEqual(self.two.cli("fsck")["problems"], [])

    def test_real_clients_of_both(self):
        repo = self.create("files")
        clients = [subprocess.Popen([harness.PYTHON, "-c", UPLOAD.format(count=4, shared="shared", folder=f"f{i}", repo=repo)],
                                    env=self.hubs[i % 2].env(self.one.admin), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                   for i in range(4)]
        outputs = [c.communicate(timeout=900) for c in clients]
        self.assertEqual([c.returncode for c in clients], [0] * 4, [e.decode()[-2000:] for _, e in outputs])
        digests = {path: digest for out, _ in outputs for path, digest in json.loads(out).items()}
        self.assertEqual(len(digests), 16)
        for hub in self.hubs:
            found = run_python(f"""
import hashlib, json, pathlib, tempfile
from huggingface_hub import snapshot_download
folder = pathlib.Path(snapshot_download("{repo}", cache_dir=tempfile.mkdtemp()))
print(json.dumps({{str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*.bin")}}))
""", hub.env(self.one.admin))
            self.assertEqual(found, digests)
        # git pushes through one and pulls through the other; upkeep of either is the upkeep of both.
        env = self.one.env(GIT_LFS_SKIP_SMUDGE="1", GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a",
                           GIT_COMMITTER_EMAIL="a@b")
        url = lambda hub: hub.url.replace("http://", f"http://admin:{self.one.admin}@") + f"/{repo}"
        clones = [self.one.folder / f"clone{i}" for i in range(2)]
        for hub, clone in zip(self.hubs, clones):
            run("git", "clone", "-q", url(hub), clone, env=env)
        (clones[0] / "pushed.txt").write_text("by git")
        run("git", "add", "pushed.txt", env=env, cwd=clones[0])
        run("git", "commit", "-qm", "pushed", env=env, cwd=clones[0])
        run("git", "push", "-q", "origin", "main", env=env, cwd=clones[0])
        self.one.cli("gc")
        run("git", "pull", "-q", "origin", "main", env=env, cwd=clones[1])
        self.assertEqual((clones[1] / "pushed.txt").read_text(), "by git")
        self.assertEqual(self.two.call("GET", f"/{repo}/resolve/main/pushed.txt", self.one.admin, raw=True)[2], b"by git")
        self.assertEqual(self.one.cli("fsck")["problems"], [])

    def test_one_goes_the_other_stays(self):
        repo = self.create("k")
        self.assertEqual(self.commit(self.one, repo, "a", b"a")[0], 200)
        self.one.process.kill()
        self.one.process.wait()
        self.assertEqual(self.two.call("GET", f"/{repo}/resolve/main/a", self.one.admin, raw=True)[2], b"a")
        self.assertEqual(self.commit(self.two, repo, "b", b"b")[0], 200)
        self.two.cli("gc")
        self.one.start()
        self.assertEqual(self.one.call("GET", f"/{repo}/resolve/main/b", self.one.admin, raw=True)[2], b"b")
        self.assertEqual(self.one.cli("fsck")["problems"], [])


if __name__ == "__main__":
    unittest.main()
