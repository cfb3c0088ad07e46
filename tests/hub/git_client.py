"""Real git and git-lfs against the hub: clone, fetch, push, history shared with the HTTP clients, what is refused."""
import hashlib, pathlib, random, shutil, subprocess, sys, tempfile, threading, unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness
from harness import run, run_python

BIG = random.Random(3).randbytes(3_000_000)


class Git(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = harness.Hub()
        cls.alice, cls.bob = cls.hub.user("alice"), cls.hub.user("bob")
        cls.count = 0

    @classmethod
    def tearDownClass(cls):
        problems = cls.hub.cli("fsck")["problems"]
        cls.hub.close()
        assert not problems, problems

    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp(dir=self.hub.folder))
        self.env = self.hub.env(home=self.home, GIT_AUTHOR_NAME="Alice", GIT_AUTHOR_EMAIL="a@x", GIT_COMMITTER_NAME="Alice",
                                GIT_COMMITTER_EMAIL="a@x")
        self.git("lfs", "install")
        self.git("config", "--global", "init.defaultBranch", "main")
        Git.count += 1
        self.name = f"alice/g{Git.count}"
        self.create(self.name)

    def create(self, name, token=None, **options):
        owner, short = name.split("/")
        status, _, body = self.hub.call("POST", "/api/repos/create", token or self.alice, {"name": short, **options})
        self.assertEqual(status, 200, body)

    def git(self, *words, cwd=None, expect=0):
        return run("git", *words, env=self.env, cwd=cwd, expect=expect)

    def remote(self, token=None, name=None):
        credentials = f"user:{token}@" if token else ""
        return self.hub.url.replace("http://", f"http://{credentials}") + "/" + (name or self.name)

    def clone(self, token=None, name=None, suffix="", *options):
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.home)) / "clone"
        self.git("clone", *options, self.remote(token, name) + suffix, folder)
        return folder

    def commit(self, folder, files, message="change"):
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        self.git("add", "-A", cwd=folder)
        self.git("commit", "-m", message, cwd=folder)

    def head(self, folder):
        return self.git("rev-parse", "HEAD", cwd=folder).stdout.strip()

    def info(self, name=None, revision="main"):
        return self.hub.call("GET", f"/api/models/{name or self.name}/revision/{revision}", self.alice)[2]

    def test_clone_push_clone(self):
        for suffix in ("", ".git"):
            folder = self.clone(self.alice, suffix=suffix)
            self.commit(folder, {"a/b.txt": suffix.encode(), "weights.bin": BIG + suffix.encode()})
            self.git("push", "origin", "main", cwd=folder)
            self.assertEqual(self.info()["sha"], self.head(folder))
            again = self.clone()
            self.assertEqual((again / "weights.bin").read_bytes(), BIG + suffix.encode())
            self.assertEqual(self.git("fsck", "--strict", cwd=again).returncode, 0)

    def test_one_history(self):
        folder = self.clone(self.alice)
        self.commit(folder, {"from-git.txt": b"git", "weights.bin": BIG})
        self.git("push", cwd=folder)
        done = run_python(f"""
import json, pathlib
from huggingface_hub import HfApi
api = HfApi()
api.upload_file(path_or_fileobj=b"http", path_in_repo="from-http.txt", repo_id="{self.name}")
path = api.hf_hub_download("{self.name}", "weights.bin")
print(json.dumps([len(pathlib.Path(path).read_bytes()), api.list_repo_files("{self.name}")]))
""", self.hub.env(self.alice))
        self.assertEqual(done[0], len(BIG))
        self.assertIn("from-git.txt", done[1])
        self.git("pull", "--ff-only", cwd=folder)
        self.assertEqual((folder / "from-http.txt").read_text(), "http")
        tree = self.hub.call("GET", f"/api/models/{self.name}/tree/main?expand=true")[2]
        last = {e["path"]: e["lastCommit"]["id"] for e in tree}
        for path in ("from-git.txt", "from-http.txt", "weights.bin", ".gitattributes"):
            self.assertEqual(last[path], self.git("log", "-1", "--format=%H", "--", path, cwd=folder).stdout.strip())

    def test_branches_tags_force_and_deletion(self):
        folder = self.clone(self.alice)
        self.commit(folder, {"x": b"1"})
        self.git("push", "origin", "main", "main:dev/a", cwd=folder)
        self.git("tag", "-a", "v1", "-m", "first", cwd=folder)
        self.git("push", "origin", "v1", cwd=folder)
        self.assertEqual(self.info(revision="v1")["sha"], self.head(folder))
        self.git("commit", "--amend", "-m", "other", cwd=folder)
        self.git("push", "origin", "main:dev/a", cwd=folder, expect=1)
        self.git("push", "--force", "origin", "main:dev/a", cwd=folder)
        self.assertEqual(self.info(revision="dev%2Fa")["sha"], self.head(folder))
        self.git("push", "origin", ":dev/a", cwd=folder)
        self.assertEqual(self.hub.call("GET", f"/api/models/{self.name}/revision/dev%2Fa")[0], 404)
        self.git("push", "origin", ":main", cwd=folder, expect=1)

    def test_several_references_move_together_or_not_at_all(self):
        one, two = self.clone(self.alice), self.clone(self.alice)
        self.commit(one, {"one": b"1"})
        self.git("push", "origin", "main", cwd=one)
        self.commit(two, {"two": b"2"})
        self.git("push", "origin", "main:new", "main:refs/notes/x", cwd=two, expect=1)
        self.assertEqual(self.hub.call("GET", f"/api/models/{self.name}/revision/new")[0], 404)
        self.git("fetch", cwd=two)
        self.git("rebase", "origin/main", cwd=two)
        self.git("push", "--atomic", "origin", "main", "main:new", cwd=two)
        self.assertEqual(self.info(revision="new")["sha"], self.info()["sha"])

    def test_simultaneous_pushes(self):
        clones = [self.clone(self.alice) for _ in range(6)]
        for i, folder in enumerate(clones):
            self.commit(folder, {f"{i}.txt": b"x"})
        results = [None] * len(clones)

        def push(i):
            for _ in range(30):
                results[i] = self.git("push", "origin", "main", cwd=clones[i], expect=None).returncode
                if results[i] == 0:
                    return
                self.git("pull", "--rebase", cwd=clones[i], expect=None)
        threads = [threading.Thread(target=push, args=(i,)) for i in range(len(clones))]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(results, [0] * len(clones))
        files = {e["path"] for e in self.hub.call("GET", f"/api/models/{self.name}/tree/main")[2]}
        self.assertEqual(files, {".gitattributes", *(f"{i}.txt" for i in range(len(clones)))})

    def test_moved(self):
        folder = self.clone(self.alice)
        self.commit(folder, {"a.bin": BIG})
        self.git("push", cwd=folder)
        new = self.name + "-new"
        self.hub.call("POST", "/api/repos/move", self.alice, {"fromRepo": self.name, "toRepo": new, "type": "model"})
        self.commit(folder, {"b.bin": BIG[::-1]})
        self.git("push", cwd=folder)  # both under the old name, their large files too
        again = self.clone(self.bob)
        self.assertEqual((again / "b.bin").read_bytes(), BIG[::-1])
        self.hub.call("PUT", f"/api/models/{new}/settings", self.alice, {"visibility": "private"})
        for method, path in (("GET", "/info/refs?service=git-upload-pack"), ("POST", "/info/lfs/objects/batch")):
            self.assertEqual(self.hub.call(method, f"/{self.name}.git{path}", self.bob, b"{}" if method == "POST" else None)[0], 404)

    def test_locks(self):
        self.hub.cli("org", "create", f"team{Git.count}", "--admin", "alice")
        self.hub.cli("org", "member", f"team{Git.count}", "bob", "--role", "write")
        name = f"team{Git.count}/locked"
        self.create(name, self.alice, organization=f"team{Git.count}")
        mine, his = self.clone(self.alice, name), self.clone(self.bob, name)
        self.commit(mine, {"a.bin": BIG})
        self.git("push", cwd=mine)
        self.git("pull", cwd=his)
        self.git("lfs", "lock", "a.bin", cwd=mine)
        self.assertRegex(self.git("lfs", "locks", cwd=his).stdout, r"a\.bin\s+alice\s+ID:\d+")
        self.assertIn("lready locked", self.git("lfs", "lock", "a.bin", cwd=his, expect=2).stderr)
        self.commit(his, {"a.bin": BIG[::-1]})
        # git-lfs refuses where lfs.<url>.locksverify is set, and warns otherwise.
        self.assertIn("* a.bin - alice", self.git("push", cwd=his).stdout)
        self.git("lfs", "unlock", "a.bin", cwd=his, expect=2)
        self.git("lfs", "unlock", "a.bin", cwd=mine)
        self.assertEqual(self.git("lfs", "locks", cwd=mine).stdout, "")
        self.git("lfs", "lock", "a.bin", cwd=mine)
        self.git("lfs", "unlock", "--force", "a.bin", cwd=his)

    def test_lfs_errors_have_a_message(self):
        status, headers, body = self.hub.call("POST", f"/{self.name}.git/info/lfs/objects/batch", self.alice, {"operation": "x"},
                                              {"Accept": "application/vnd.git-lfs+json"})
        self.assertEqual((status, headers["Content-Type"]), (422, "application/vnd.git-lfs+json"))
        self.assertIn(b'"message": "operation: expected upload or download"', body)

    def test_private_and_absent_look_the_same(self):
        self.create("alice/hidden", private=True)
        for name in ("alice/hidden", "alice/absent"):
            status, headers, _ = self.hub.call("GET", f"/{name}/info/refs?service=git-upload-pack")
            self.assertEqual((status, headers["WWW-Authenticate"][:5]), (401, "Basic"))
            for token in (self.bob,):
                done = self.git("clone", self.remote(token, name), self.home / "no", expect=128)
                self.assertIn("not found", done.stderr)
        self.clone(self.alice, "alice/hidden")

    def test_who_may_not_push(self):
        folder = self.clone(self.bob)
        self.commit(folder, {"x": b"1"})
        before = self.info()["sha"]
        self.assertNotEqual(self.git("push", cwd=folder, expect=None).returncode, 0)
        self.assertEqual(self.info()["sha"], before)

    def test_pointer_without_its_object(self):
        folder = self.clone(self.alice)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 12345\n"
        self.git("config", "filter.lfs.clean", "cat", cwd=folder)
        self.git("config", "filter.lfs.process", "", cwd=folder)
        self.git("config", "filter.lfs.required", "false", cwd=folder)
        self.commit(folder, {"weights.bin": pointer.encode()})
        done = self.git("push", "--no-verify", cwd=folder, expect=1)
        self.assertIn("ab" * 32, done.stderr)

    def test_large_raw_file(self):
        folder = self.clone(self.alice)
        self.commit(folder, {"large.txt": b"x" * (11 << 20)})
        done = self.git("push", cwd=folder, expect=1)
        self.assertIn("large.txt", done.stderr + done.stdout)

    def test_bad_history_is_named(self):
        folder = self.clone(self.alice)
        blob = run("git", "hash-object", "-w", "--stdin", env=self.env, cwd=folder, stdin="x").stdout.strip()
        entry = b"100644 .git\0" + bytes.fromhex(blob)
        tree = subprocess.run(["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"], input=entry,
                              capture_output=True, env=self.env, cwd=folder).stdout.decode().strip()
        commit = run("git", "commit-tree", tree, "-p", "HEAD", "-m", "evil", env=self.env, cwd=folder).stdout.strip()
        done = self.git("push", "--no-verify", "origin", f"{commit}:refs/heads/main", cwd=folder, expect=1)
        self.assertIn("hasDotgit", done.stderr)
        self.assertIn(tree, done.stderr)

    def test_shallow_and_partial(self):
        folder = self.clone(self.alice)
        for i in range(5):
            self.commit(folder, {"x": str(i).encode()}, f"commit {i}")
        self.git("push", cwd=folder)
        shallow = self.clone(None, None, "", "--depth", "2")
        self.assertEqual(len(self.git("log", "--format=%H", cwd=shallow).stdout.split()), 2)
        self.git("fetch", "--unshallow", cwd=shallow)
        self.assertEqual(self.head(shallow), self.head(folder))
        partial = self.clone(None, None, "", "--filter=blob:none", "--no-checkout")
        self.assertEqual(self.head(partial), self.head(folder))

    def test_pull_request_reference(self):
        done = run_python(f"""
import json
from huggingface_hub import HfApi, CommitOperationAdd
info = HfApi().create_commit("{self.name}", [CommitOperationAdd("pr.txt", b"pr")], commit_message="pr", create_pr=True)
print(json.dumps(info.oid))
""", self.hub.env(self.bob))
        folder = self.clone(self.alice)
        self.git("fetch", "origin", "refs/pr/1:pr", cwd=folder)
        self.assertEqual(self.git("rev-parse", "pr", cwd=folder).stdout.strip(), done)

    def test_types(self):
        for kind in ("dataset", "space", "kernel"):
            self.create("alice/data", type=kind)
            folder = self.clone(self.alice, f"{kind}s/alice/data")
            self.commit(folder, {"a.csv": b"1,2\n", "t.parquet": BIG})
            self.git("push", cwd=folder)
            self.assertEqual((self.clone(None, f"{kind}s/alice/data") / "t.parquet").read_bytes(), BIG)

    def test_caches_may_vanish(self):
        folder = self.clone(self.alice)
        for i in range(3):
            shutil.rmtree(self.hub.data / "cache", ignore_errors=True)
            self.commit(folder, {"x": str(i).encode()})
            self.git("push", cwd=folder)
            self.assertEqual(self.info()["sha"], self.head(folder))


if __name__ == "__main__":
    unittest.main()
