"""What we upload Python downloads bit for bit, what is there is not sent again, and what goes wrong is said and harms
nothing."""
import json, os, pathlib, random, subprocess, tempfile, time, unittest

import client, harness
from harness import run_python


def rng_bytes(seed, size):
    dice = random.Random(seed)
    return b"".join(dice.randbytes(min(size - at, 1 << 26)) for at in range(0, size, 1 << 26))


def floats(seed, count):
    import numpy
    return numpy.random.default_rng(seed).standard_normal(count).astype("float32").tobytes()


class Client(unittest.TestCase):
    OPTIONS = ()

    def setUp(self):
        self.hub = harness.Hub(*self.OPTIONS)
        self.addCleanup(self.hub.close)
        self.alice = self.hub.user("alice")
        self.env = self.hub.env(self.alice)
        self.repo = "alice/model"
        self.create(self.repo)
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.hub.folder))

    def create(self, repo, **more):
        namespace, name = repo.split("/")
        status, _, answer = self.hub.call("POST", "/api/repos/create", self.alice,
                                          {"name": name, "organization": namespace if namespace != "alice" else None} | more)
        self.assertEqual(status, 200, answer)

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def process(self, *options, verb="upload", folder=None, repo=None, env=None):
        argv = [client.TOOL, verb, repo or self.repo, str(folder or self.folder), *options]
        return subprocess.Popen(argv, env=env or self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def upload(self, *options, expect=0, **where):
        process = self.process(*options, **where)
        out, error = process.communicate(timeout=300)
        self.assertEqual(process.returncode, expect, error)
        return json.loads(out) if expect == 0 else json.loads(error)["message"]

    def files(self, revision="main", repo=None, kind="model"):
        """Every file as Python downloads it."""
        where = tempfile.mkdtemp(dir=self.hub.folder)
        run_python(f"""
from huggingface_hub import snapshot_download
snapshot_download({repo or self.repo!r}, repo_type={kind!r}, revision={revision!r}, local_dir={where!r})
print(1)""", self.hub.env(self.alice))
        root = pathlib.Path(where)
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*")
                if p.is_file() and ".cache" not in p.parts and p.name != ".gitattributes"}

    def local(self):
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}

    def commits(self, revision="main"):
        return self.hub.call("GET", f"/api/models/{self.repo}/commits/{revision}", self.alice)[2]

    def received(self, part):
        return sum(json.loads(line)["bytes_in"] for line in self.hub.log_text().splitlines() if part in line)

    def assert_clean(self):
        self.assertEqual(self.hub.cli("fsck")["problems"], [])


class Upload(Client):
    def test_python_downloads_the_same_bytes(self):
        self.write("README.md", "---\nlicense: mit\n---\n# Hello\n")
        self.write("config.json", "{}")
        self.write("empty", b"")
        self.write("empty.bin", b"")
        self.write("a b/ü %41#?&+.txt", "names")
        self.write("deep/er/and/deeper/model.safetensors", floats(1, 3_000_000))
        self.write("small.bin", rng_bytes(2, 1000))
        self.write("random.bin", rng_bytes(3, 20_000_000))
        done = self.upload("message=First\n\nand why")
        self.assertEqual(self.files(), self.local())
        self.assertEqual((done["commits"], done["files_uploaded"]), (1, 8))
        self.assertEqual([c["title"] for c in self.commits()], ["First", "initial commit"])
        self.assertEqual(self.commits()[0]["id"], done["oid"])
        self.assertGreater(self.received("/v1/xorbs/"), 0)
        self.assert_clean()

    def test_again_sends_nothing(self):
        for name, content in {"config.json": b"{}", "model.safetensors": floats(1, 1_000_000), "empty": b""}.items():
            self.write(name, content)
        first = self.upload()
        second = self.upload()
        self.assertEqual((second["commits"], second["files_uploaded"], second["files_unchanged"]), (0, 0, 3))
        self.assertEqual(second["oid"], first["oid"])
        self.assertLess(second["uploaded"], 3000)
        self.assertEqual(len(self.commits()), 2)

    def test_a_changed_checkpoint_sends_its_change(self):
        data = bytearray(floats(1, 25_000_000))
        self.write("model.safetensors", data)
        self.upload()
        for at in (0, 50_000_000):  # the very first chunk, and one in the middle
            data[at:at + 200] = rng_bytes(at + 1, 200)
        self.write("model.safetensors", data)
        before = self.received("/v1/xorbs/")
        done = self.upload()
        self.assertLess(self.received("/v1/xorbs/") - before, 600_000)
        self.assertLess(done["uploaded"], 600_000)
        # Another machine, which has no journal: the hub is asked.
        before = self.received("/v1/xorbs/")
        data[80_000_000:80_000_200] = rng_bytes(5, 200)
        self.write("model.safetensors", data)
        self.upload(env=self.hub.env(self.alice))
        self.assertLess(self.received("/v1/xorbs/") - before, 70_000_000)
        self.assertEqual(self.files(), self.local())
        self.assert_clean()

    def test_what_python_uploaded_is_unchanged(self):
        self.write("config.json", "{}")
        self.write("model.safetensors", floats(1, 2_000_000))
        run_python(f"""
from huggingface_hub import HfApi
HfApi().upload_folder(repo_id={self.repo!r}, folder_path={str(self.folder)!r})
print(1)""", self.env)
        done = self.upload()
        self.assertEqual((done["commits"], done["files_unchanged"]), (0, 2))

    def test_patterns_subfolder_and_removal(self):
        self.write("a.txt", "a")
        self.write("b.log", "b")
        self.write("sub/c.txt", "c")
        self.upload("in=x", "ignore=*.log")
        self.assertEqual(set(self.files()), {"x/a.txt", "x/sub/c.txt"})
        (self.folder / "a.txt").unlink()
        self.write("d.txt", "d")
        self.assertEqual(self.upload("in=x", "ignore=*.log", "delete=*.txt")["commits"], 1)
        self.assertEqual(set(self.files()), {"x/d.txt", "x/sub/c.txt"})
        self.upload(verb="delete_files", folder="x/sub/")
        self.assertEqual(set(self.files()), {"x/d.txt"})
        self.assertIn("no file matches", self.upload(verb="delete_files", folder="nothing", expect=3))

    def test_a_dataset(self):
        self.create("alice/data", type="dataset")
        for number, off in enumerate(("0", "1")):
            self.write("train.parquet", rng_bytes(number, 500_000))
            self.write("README.md", f"# {number}\n")
            self.upload("type=dataset", repo="alice/data", env=self.env | {"HF_HUB_DISABLE_XET": off})
            self.assertEqual(self.files(repo="alice/data", kind="dataset"), self.local())

    def test_gitignore_is_heeded(self):
        self.write(".gitignore", "*.tmp\n")
        self.write("a.tmp", "a")
        self.write("b.txt", "b")
        self.upload()
        self.assertEqual(set(self.files()), {".gitignore", "b.txt"})

    def test_a_single_file(self):
        path = self.write("weights.bin", rng_bytes(1, 300_000))
        self.upload(folder=path)
        self.upload(folder=path, *["in=deep/other.bin"])
        self.assertEqual(set(self.files()), {"weights.bin", "deep/other.bin"})
        self.assertEqual(self.received("/v1/xorbs/") < 400_000, True)

    def test_organisations_branches_and_pull_requests(self):
        self.hub.cli("org", "create", "acme", "--admin", "alice")
        self.write("a.txt", "a")
        self.write("m.bin", rng_bytes(1, 200_000))
        self.upload("revision=dev")
        self.assertEqual(set(self.files("dev")), {"a.txt", "m.bin"})
        self.assertEqual(self.files(), {})
        done = self.upload("create_pr=1", "message=Please take this")
        self.assertTrue(done["pr_url"].endswith(f"/{self.repo}/discussions/1"), done)
        self.assertEqual(set(self.files("refs/pr/1")), {"a.txt", "m.bin"})
        self.assertEqual(self.files(), {})
        self.assertEqual(self.upload("create_pr=1", "revision=dev")["pr_url"], "")  # nothing to ask for

    def test_an_organisations_members(self):
        self.hub.cli("org", "create", "acme", "--admin", "alice")
        self.create("acme/net")
        self.write("a.txt", "a")
        self.write("m.bin", rng_bytes(1, 300_000))
        for name, role, expect in (("wendy", "write", 0), ("rita", "read", 4), ("eve", None, 4)):
            env = self.hub.env(self.hub.user(name))
            if role:
                self.hub.cli("org", "member", "acme", name, "--role", role)
            said = self.upload(repo="acme/net", env=env, expect=expect)
            if expect:
                self.assertNotIn("\n", said)
            self.assertEqual(self.files(repo="acme/net"), self.local() if name == "wendy" else before)
            before = self.files(repo="acme/net")
            self.write("a.txt", "b")
        self.assertEqual(before["a.txt"], b"a")

    def test_somebody_else_was_faster(self):
        self.write("a.txt", "a")
        old = self.upload()["oid"]
        self.write("a.txt", "b")
        new = self.upload(f"parent={old}")["oid"]
        self.write("a.txt", "c")
        message = self.upload(f"parent={old}", expect=1)
        self.assertIn(new, message)
        self.assertEqual(self.files(), {"a.txt": b"b"})

    def test_many_files_in_several_commits(self):
        for i in range(3000):
            self.write(f"{i % 10}/{i}.txt", str(i))
        done = self.upload("files_per_commit=1000", "message=Many")
        self.assertEqual(done["commits"], 3)
        self.assertEqual([c["title"] for c in self.commits()],
                         ["Many (part 3)", "Many (part 2)", "Many (part 1)", "initial commit"])
        self.assertEqual(self.files(), self.local())

    def test_many_bytes_of_small_files_in_several_commits(self):
        for i in range(30):
            self.write(f"{i}.txt", ("x" * 63 + "\n") * 72_000)
        self.assertEqual(self.upload()["commits"], 2)
        self.assertEqual(self.files(), self.local())

    def test_secrets_stop_everything(self):
        token = "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6"
        self.write("a.txt", "fine")
        self.write("train.py", f"x = 1\nlogin('{token}')\n")
        message = self.upload(expect=4)
        self.assertIn("train.py: line 2", message)
        self.assertNotIn(token[3:], message)
        self.assertEqual(len(self.commits()), 1)
        self.assertEqual(self.upload("allow_secrets=1")["commits"], 1)

    def test_a_card_that_the_hub_refuses(self):
        self.write("README.md", "---\nlicense: [\n---\n")
        self.write("a.txt", "a")
        message = self.upload(expect=5)
        self.assertIn("README.md", message)
        self.assertEqual(len(self.commits()), 1)

    def test_links_that_lead_out(self):
        (self.folder / "passwd").symlink_to("/etc/passwd")
        self.assertIn("passwd: a symbolic link that leads out", self.upload(expect=5))

    def test_no_right_no_repository(self):
        self.write("a.txt", "a")
        self.upload(repo="alice/none", expect=3)
        other = self.hub.env(self.hub.user("bob"))
        self.assertNotIn("\n", self.upload(env=other, expect=4))

    def test_a_quota_that_is_full(self):
        self.hub.cli("user", "quota", "alice", "1MB")
        self.write("m.bin", rng_bytes(1, 3_000_000))
        message = self.upload(expect=4)
        self.assertIn("may hold", message)
        self.assertNotIn("\n", message)

    def test_a_file_cut_while_it_is_uploaded(self):
        path = self.write("m.bin", rng_bytes(1, 100_000_000))
        os.truncate(path, 6_000_000_000)  # zeros, which take seconds to read and nothing to store
        process = self.process()
        deadline = time.time() + 60
        while self.received("/v1/xorbs/") == 0 and time.time() < deadline and process.poll() is None:
            time.sleep(0.01)
        os.truncate(path, 1000)
        out, error = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1, error)
        self.assertIn("changed while it was uploaded", error)
        self.assertEqual(self.files(), {})


class WithoutXet(Client):
    OPTIONS = ("--lfs-part-size", "5MB")

    def test_basic_and_multipart(self):
        self.env["HF_HUB_DISABLE_XET"] = "1"
        self.write("small.bin", rng_bytes(1, 300_000))
        self.write("large.bin", rng_bytes(2, 12_000_000))
        self.write("exact.bin", rng_bytes(3, 10_000_000))
        self.assertEqual(self.upload()["commits"], 1)
        self.assertEqual(self.files(), self.local())
        self.assertEqual(self.received("/v1/xorbs/"), 0)
        self.assertGreater(self.received("/api/lfs/multipart/"), 22_000_000)
        self.assertEqual(self.upload()["commits"], 0)
        # The hub has the bytes under another name.
        (self.folder / "large.bin").rename(self.folder / "renamed.bin")
        before = self.received("/api/lfs/")
        self.upload()
        self.assertLess(self.received("/api/lfs/") - before, 1000)


class Killed(Client):
    def test_what_was_stored_is_not_sent_again(self):
        self.write("model.safetensors", rng_bytes(1, 400_000_000))
        process = self.process()
        while self.received("/v1/xorbs/") < 190_000_000 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        self.assertEqual(self.files(), {})
        stored = self.received("/v1/xorbs/")
        done = self.upload()
        self.assertLess(done["uploaded"], 400_000_000 - stored + 70_000_000)
        self.assertEqual(self.files(), self.local())

    def test_only_its_own_notes_grow_old(self):
        # A link in place of the folder leads to files that are none of the client's.
        documents = self.folder / "documents"
        old = self.write("documents/letters/old.txt", "dear")
        note = self.write("documents/letters/" + "a" * 64 + ".shard", "x")
        for path in (old, note):
            os.utime(path, (1, 1))
        home = pathlib.Path(self.env["HF_HOME"]) / "pretrained"
        home.mkdir(parents=True)
        (home / "upload").symlink_to(documents)
        self.upload("xet=1", folder=self.write("model.bin", rng_bytes(5, 2_000_000)))
        self.assertEqual((old.exists(), note.exists()), (True, False))

    def test_at_twenty_moments(self):
        def fill(seed):
            for i in range(3):
                self.write(f"model-{i}.safetensors", rng_bytes(seed + i, 80_000_000))

        self.write("config.json", "{}")
        fill(10)
        self.create("alice/other")
        began = time.time()
        self.upload(repo="alice/other")
        whole = time.time() - began
        fill(20)
        dice = random.Random(7)
        for _ in range(20):
            process = self.process()
            try:
                process.wait(dice.uniform(0, 0.8 * whole))
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
        done = self.upload()
        self.assertLess(done["uploaded"], 120_000_000)
        self.assertEqual(self.files(), self.local())
        self.assertLessEqual(len(self.commits()), 2)
        self.assert_clean()


if __name__ == "__main__":
    unittest.main()
