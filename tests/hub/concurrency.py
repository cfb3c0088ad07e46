"""64 clients on 16 repositories: every acknowledged commit is in the history, once; conflicts are refused, not lost."""
import base64, hashlib, json, pathlib, sqlite3, subprocess, sys, threading, unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness


def commit(hub, repo, path, content, parent=None):
    header = {"summary": path} | ({"parentCommit": parent} if parent else {})
    lines = [{"key": "header", "value": header},
             {"key": "file", "value": {"path": path, "encoding": "base64", "content": base64.b64encode(content).decode()}}]
    return hub.call("POST", f"/api/models/{repo}/commit/main", hub.admin, "\n".join(map(json.dumps, lines)).encode(),
                    {"Content-Type": "application/x-ndjson"})


def together(count, work):
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    [t.start() for t in threads]
    [t.join() for t in threads]


class Concurrency(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = harness.Hub()

    @classmethod
    def tearDownClass(cls):
        problems = cls.hub.cli("fsck")["problems"]
        cls.hub.close()
        assert not problems, problems

    def create(self, name):
        self.assertEqual(self.hub.call("POST", "/api/repos/create", self.hub.admin, {"name": name})[0], 200)
        return f"admin/{name}"

    def history(self, repo):
        titles, page = [], 0
        while True:
            part = self.hub.call("GET", f"/api/models/{repo}/commits/main?p={page}&limit=50", self.hub.admin)[2]
            if not part:
                return titles
            titles += [c["title"] for c in part]
            page += 1

    def test_many_writers(self):
        repos = [self.create(f"w{i}") for i in range(16)]
        acknowledged, strange = [[] for _ in repos], []

        def work(i):
            repo = i % 16
            for k in range(5):
                name = f"{i}-{k}.txt"
                status, _, body = commit(self.hub, repos[repo], name, name.encode())
                if status == 200:
                    acknowledged[repo].append(name)
                elif status not in (409, 412, 503):
                    strange.append((status, body))
        together(64, work)
        self.assertEqual(strange, [])
        for repo, names in zip(repos, acknowledged):
            files = {e["path"] for e in self.hub.call("GET", f"/api/models/{repo}/tree/main", self.hub.admin)[2]}
            self.assertEqual(files - {".gitattributes"}, set(names))
            self.assertEqual(sorted(self.history(repo)), sorted([*names, "initial commit"]))
        # Without parentCommit nobody has to lose.
        self.assertEqual(sum(map(len, acknowledged)), 64 * 5)

    def test_one_of_equal_parents_wins(self):
        repo = self.create("race")
        head = self.hub.call("GET", f"/api/models/{repo}", self.hub.admin)[2]["sha"]
        codes = []
        together(16, lambda i: codes.append(commit(self.hub, repo, f"{i}.txt", b"x", head)[0]))
        self.assertEqual((codes.count(200), codes.count(412)), (1, 15))

    def test_delete_while_writing(self):
        repo, codes = self.create("gone"), []

        def work(i):
            if i == 3:
                codes.append(self.hub.call("DELETE", "/api/repos/delete", self.hub.admin, {"name": "gone"})[0])
            else:
                codes.append(commit(self.hub, repo, f"{i}.txt", b"x")[0])
        together(12, work)
        self.assertLessEqual(set(codes), {200, 404, 409, 503})
        self.assertEqual(self.hub.call("GET", f"/api/models/{repo}", self.hub.admin)[0], 404)

    def test_garbage_is_collected_beside_clients(self):
        """Clients upload, share chunks and delete while gc runs in a loop; then every promise of time is over and it runs again."""
        code = """
import hashlib, json, os, random
from huggingface_hub import HfApi
api, files = HfApi(), {{}}
api.create_repo("admin/gc{n}")
shared = random.Random(1).randbytes(1_000_000)
for i in range(6):
    content = shared + os.urandom(800_000)
    api.upload_file(path_or_fileobj=content, path_in_repo=f"{{i}}.bin", repo_id="admin/gc{n}")
    files[f"{{i}}.bin"] = hashlib.sha256(content).hexdigest()
    if i % 3 == 2:
        api.delete_file(f"{{i - 1}}.bin", "admin/gc{n}")
        del files[f"{{i - 1}}.bin"]
print(json.dumps(files))
"""
        clients = [subprocess.Popen([harness.PYTHON, "-c", code.format(n=n)], env=self.hub.env(self.hub.admin),
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE) for n in range(3)]
        outputs = [None] * 3
        waiting = [threading.Thread(target=lambda n=n: outputs.__setitem__(n, clients[n].communicate())) for n in range(3)]
        [t.start() for t in waiting]
        rounds = 0
        while any(t.is_alive() for t in waiting):
            self.hub.cli("gc")
            rounds += 1
        self.assertGreater(rounds, 1)
        self.assertEqual([c.returncode for c in clients], [0] * 3, [e.decode()[-2000:] for _, e in outputs])
        for promises_kept in (True, False):
            for n, (out, _) in enumerate(outputs):
                for path, digest in json.loads(out).items():
                    content = self.hub.call("GET", f"/admin/gc{n}/resolve/main/{path}", self.hub.admin, raw=True)[2]
                    self.assertEqual(hashlib.sha256(content).hexdigest(), digest, (n, path))
            if promises_kept:
                with sqlite3.connect(self.hub.data / "hub.db", timeout=30) as database:
                    for table in ("xorbs", "xorb_access", "files", "repo_objects"):
                        database.execute(f"UPDATE {table} SET lease_until = 1")
                database.close()
                self.hub.cli("gc")

    def test_create_once(self):
        codes = []
        together(12, lambda i: codes.append(self.hub.call("POST", "/api/repos/create", self.hub.admin, {"name": "once"})[0]))
        self.assertEqual((codes.count(200), codes.count(409)), (1, 11))


if __name__ == "__main__":
    unittest.main()
