"""64 clients on 16 repositories: every acknowledged commit is in the history, once; conflicts are refused, not lost."""
import base64, json, pathlib, sys, threading, unittest

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

    def test_create_once(self):
        codes = []
        together(12, lambda i: codes.append(self.hub.call("POST", "/api/repos/create", self.hub.admin, {"name": "once"})[0]))
        self.assertEqual((codes.count(200), codes.count(409)), (1, 11))


if __name__ == "__main__":
    unittest.main()
