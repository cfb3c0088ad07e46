"""Downloads with our client and with Python's, by turns and at once: one cache, one folder, the same bytes."""
import hashlib, json, os, pathlib, random, shutil, subprocess, sys, tempfile, time, unittest

import client, harness
from slow_proxy import SlowProxy

PUSH = """
import huggingface_hub, json, sys
api = huggingface_hub.HfApi()
repo, folder = sys.argv[1:3]
api.create_repo(repo, exist_ok=True)
print(json.dumps(api.upload_folder(repo_id=repo, folder_path=folder).oid))
"""
PULL = """
import huggingface_hub, json, sys
repo, options = sys.argv[1], json.loads(sys.argv[2])
print(json.dumps(huggingface_hub.snapshot_download(repo, **options)))
"""
SCAN = """
import huggingface_hub, json
info = huggingface_hub.scan_cache_dir()
print(json.dumps({"warnings": [str(w) for w in info.warnings], "repos": {r.repo_id: {
    "size": r.size_on_disk, "revisions": {v.commit_hash: {"refs": sorted(v.refs), "size": v.size_on_disk, "files": v.nb_files}
                                          for v in r.revisions}} for r in info.repos}}))
"""


def tree(folder):
    """path → SHA-256 of every file below, without the clients' books."""
    folder = pathlib.Path(folder)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in folder.rglob("*") if p.is_file() and ".cache" not in p.relative_to(folder).parts}


def leftovers(folder):
    """Of downloads; a reference or link that was just being made is swept an hour later."""
    return [str(p) for p in pathlib.Path(folder).rglob("*") if ".pretrained." in p.name or p.name.endswith((".tmp", ".incomplete"))]


def python(code, *words, env, expect=0):
    done = harness.run(harness.PYTHON, "-c", code, *words, env=env, expect=expect)
    return json.loads(done.stdout.strip().splitlines()[-1]) if expect == 0 else done


class Downloads(client.HubTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.token = cls.hub.admin
        cls.source = cls.folder / "source"
        (cls.source / "sub/deep").mkdir(parents=True)
        dice = random.Random(1)
        (cls.source / "README.md").write_text("# net\n")
        (cls.source / "config.json").write_text('{"a": 1}\n')
        (cls.source / "empty.txt").write_text("")
        (cls.source / "sub/deep/näme with blanks.txt").write_text("ü\n")
        (cls.source / "sub/copy.json").write_text('{"a": 1}\n')
        (cls.source / "model.safetensors").write_bytes(dice.randbytes(40_000_000))
        (cls.source / "sub/small.bin").write_bytes(dice.randbytes(300_000))
        (cls.source / "sub/twin.bin").write_bytes((cls.source / "sub/small.bin").read_bytes())
        cls.commit = python(PUSH, "admin/net", cls.source, env=cls.hub.env(cls.token))
        cls.tree = tree(cls.source)

    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        self.env = self.hub.env(self.token, home=self.home)
        self.cache = self.home / "hf/hub"

    def download(self, repo="admin/net", expect=0, env=None, **options):
        return client.tool("download", repo, json.dumps(options), env=env or self.env, expect=expect)

    def cancel_half_way(self):
        """So slowly that the rest of the 40 MB cannot come while the tool stops."""
        proxy = SlowProxy(self.hub.port, 10_000_000)
        self.addCleanup(proxy.close)
        return self.download(env=self.env | {"HF_ENDPOINT": proxy.url, "HUB_TOOL_LIMIT": "20000000"}, expect=1)

    def requests(self, call):
        """What the hub was asked meanwhile."""
        before = len(self.hub.log_text())
        call()
        time.sleep(0.1)
        return self.hub.log_text()[before:].splitlines()

    def check_tree(self, folder):
        found = tree(folder)
        found.pop(".gitattributes")
        self.assertEqual(found, self.tree)

    def check_cache(self):
        """Python's scan and ours agree and find nothing wrong."""
        theirs, ours = python(SCAN, env=self.env), client.tool("cache", "ls", env=self.env)
        self.assertEqual(theirs["warnings"], [])
        self.assertEqual([r.pop("problems") for r in ours.values()], [[]] * len(ours))
        self.assertEqual(ours, theirs["repos"])
        for repo in ours:
            self.assertEqual(client.tool("cache", "verify", repo, env=self.env), [])
            harness.run(harness.PYTHON, "-m", "huggingface_hub.cli.hf", "cache", "verify", repo, env=self.env)
        self.assertEqual(leftovers(self.cache), [])

    def test_whole_repository(self):
        got = self.download()
        self.assertEqual(got["commit"], self.commit)
        self.assertEqual(got["folder"], str(self.cache / "models--admin--net/snapshots" / self.commit))
        self.check_tree(got["folder"])
        self.assertEqual(got["files"], sorted([*self.tree, ".gitattributes"]))
        unique = {p.name: p.stat().st_size for p in (self.cache / "models--admin--net/blobs").iterdir()}
        self.assertEqual(got["downloaded"], sum(unique.values()))  # equal files came once
        self.assertEqual((self.cache / "models--admin--net/refs/main").read_text(), self.commit)
        self.check_cache()
        again = self.download()
        self.assertEqual(again["downloaded"], 0)
        # A commit that is there whole needs no connection.
        self.assertEqual(self.requests(lambda: self.download(revision=self.commit)), [])

    def test_python_goes_on_with_our_cache(self):
        ours = self.download(allow=["*.json", "*.bin"])
        asked = self.requests(lambda: python(PULL, "admin/net", "{}", env=self.env))
        self.assertEqual([line for line in asked if "config.json" in line or "small.bin" in line], [])
        self.check_tree(ours["folder"])
        self.check_cache()

    def test_we_go_on_with_pythons_cache(self):
        theirs = python(PULL, "admin/net", json.dumps({"allow_patterns": ["*.safetensors", "*.json"]}), env=self.env)
        got = self.download()
        self.assertEqual(got["folder"], theirs)
        self.assertLess(got["downloaded"], 1_000_000)
        self.check_tree(theirs)
        self.check_cache()

    def test_both_at_once(self):
        # Several processes of both kinds on one cache.
        ours = [subprocess.Popen([client.TOOL, "download", "admin/net", "{}"], env=self.env, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT) for _ in range(4)]
        theirs = [subprocess.Popen([harness.PYTHON, "-c", PULL, "admin/net", "{}"], env=self.env, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT) for _ in range(2)]
        for process in ours + theirs:
            output = process.communicate(timeout=120)[0]
            self.assertEqual(process.returncode, 0, output)
        self.check_tree(self.cache / "models--admin--net/snapshots" / self.commit)
        self.check_cache()

    def test_patterns(self):
        self.assertEqual(self.download(allow=["*.json"])["files"], ["config.json", "sub/copy.json"])
        self.assertEqual(self.download(allow=["sub/"], ignore=["*.bin"])["files"],
                         ["sub/copy.json", "sub/deep/näme with blanks.txt"])
        nothing = self.download(allow=["*.onnx"])
        self.assertEqual(nothing["files"], [])
        self.assertIn("admin/net@main: none of its 9 files is what was looked for: *.onnx", nothing["events"])
        self.check_cache()

    def test_one_file(self):
        path = self.download(file="sub/deep/näme with blanks.txt")["file"]
        self.assertEqual(pathlib.Path(path).read_text(), "ü\n")
        self.assertEqual(self.requests(lambda: self.download(file="config.json", revision=self.commit))[0].count("paths-info"), 1)
        self.assertEqual(self.requests(lambda: self.download(file="config.json", revision=self.commit)), [])
        missing = self.download(file="confog.json", expect=3)
        self.assertEqual(missing["error"], "EntryNotFound")
        self.assertIn("did you mean 'config.json'?", missing["message"])
        # What is known to be absent is not asked for again, by Python neither.
        self.assertEqual(self.requests(lambda: self.download(file="confog.json", revision=self.commit, expect=3)), [])
        self.assertTrue((self.cache / "models--admin--net/.no_exist" / self.commit / "confog.json").exists())
        self.check_cache()

    def test_not_found_and_not_permitted(self):
        self.assertEqual(self.download("admin/not", expect=3)["error"], "RepositoryNotFound")
        self.assertEqual(self.download(revision="mein", expect=3)["error"], "RevisionNotFound")
        self.assertEqual(self.download("../x", expect=2)["error"], "ArgumentError")
        self.assertEqual(self.download(env=self.env | {"HF_TOKEN": "hf_" + "x" * 34}, expect=4)["error"], "Unauthorized")

    def test_offline(self):
        offline = self.env | {"HF_HUB_OFFLINE": "1"}
        gone = self.download(env=offline, expect=6)
        self.assertEqual(gone["error"], "OfflineError")
        self.assertIn("not in the cache", gone["message"])
        self.download(allow=["*.json"])
        part = self.download(env=offline, expect=6)
        self.assertIn("files are not in the cache", part["message"])
        self.download(env=offline, allow=["*.json"])
        self.download(file="confog.json", expect=3)
        self.assertEqual(self.download(env=offline, file="confog.json", expect=3)["error"], "EntryNotFound")
        self.assertEqual(self.download(env=offline, file="empty.txt", expect=6)["error"], "OfflineError")
        whole = self.download()
        # In a network without interfaces, to be sure.
        namespace = ["unshare", "-rn", client.TOOL, "download", "admin/net"]
        for options in ({"local": True}, {"local": True, "revision": self.commit}, {"revision": self.commit}):
            done = harness.run(*namespace, json.dumps(options), env=self.env)
            self.assertEqual(json.loads(done.stdout)["folder"], whole["folder"])
        harness.run(*namespace, "{}", env=offline)
        harness.run("unshare", "-rn", harness.PYTHON, "-c", PULL, "admin/net", "{}", env=offline)

    def test_a_file_that_was_cut_comes_again(self):
        folder = pathlib.Path(self.download()["folder"])
        (folder / "config.json").resolve().write_text("")
        got = self.download()
        self.assertEqual([e for e in got["events"] if "downloaded" in e], ["config.json: downloaded", "sub/copy.json: downloaded"])
        self.check_tree(folder)
        self.check_cache()

    def test_force_downloads_again(self):
        folder = pathlib.Path(self.download()["folder"])
        blob = (folder / "config.json").resolve()
        blob.write_text("damaged")
        self.assertEqual(len(client.tool("cache", "verify", "admin/net", env=self.env)), 1)
        self.assertEqual(self.download(file="config.json", force=True)["file"], str(folder / "config.json"))
        self.assertEqual(blob.read_text(), '{"a": 1}\n')
        self.check_cache()

    def test_folder_of_ones_own(self):
        target = self.home / "here"
        got = self.download(local_dir=str(target))
        self.assertEqual(got["folder"], str(target))
        self.check_tree(target)
        self.assertFalse((target / "config.json").is_symlink())
        self.assertFalse(self.cache.exists())
        # Nobody fetches anything twice.
        options = json.dumps({"local_dir": str(target)})
        asked = self.requests(lambda: python(PULL, "admin/net", options, env=self.env))
        self.assertEqual([line for line in asked if "resolve" in line and "GET" in line], [])
        self.assertEqual(self.download(local_dir=str(target))["downloaded"], 0)
        # Changed files come again, and only these.
        (target / "config.json").write_text("changed")
        os.utime(target / "config.json", (time.time() + 5, time.time() + 5))
        got = self.download(local_dir=str(target))
        self.assertEqual([e for e in got["events"] if "downloaded" in e], ["config.json: downloaded"])
        self.check_tree(target)
        self.assertEqual(leftovers(target), [])

    def test_a_name_as_long_as_pythons_clients_take(self):
        source, name = self.home / "long", "n" * 240 + ".bin"
        source.mkdir()
        (source / name).write_bytes(random.Random(3).randbytes(200_000))
        python(PUSH, "admin/long", source, env=self.hub.env(self.token))
        python(PULL, "admin/long", json.dumps({"local_dir": str(self.home / "python")}), env=self.env)
        self.download("admin/long", local_dir=str(self.home / "ours"))
        self.assertEqual((self.home / "ours" / name).read_bytes(), (source / name).read_bytes())

    def test_folder_that_python_began(self):
        target = self.home / "here"
        python(PULL, "admin/net", json.dumps({"local_dir": str(target), "ignore_patterns": ["*.md"]}), env=self.env)
        got = self.download(local_dir=str(target))
        self.assertEqual([e for e in got["events"] if "downloaded" in e], ["README.md: downloaded"])
        self.check_tree(target)

    def test_folder_is_filled_from_the_cache(self):
        self.download()
        got = self.download(local_dir=str(self.home / "here"))
        self.assertEqual(got["downloaded"], 0)
        self.check_tree(self.home / "here")

    def test_a_damaged_cache_fills_no_folder(self):
        folder = pathlib.Path(self.download()["folder"])
        blob = (folder / "model.safetensors").resolve()
        blob.chmod(0o600)
        with open(blob, "r+b") as file:
            file.write(b"other bytes of the same length")
        got = self.download(local_dir=str(self.home / "here"))
        self.assertEqual(got["downloaded"], 40_000_000)
        self.check_tree(self.home / "here")
        self.assertEqual(leftovers(self.home / "here"), [])

    def test_files_where_links_are_switched_off(self):
        env = self.env | {"HF_HUB_DISABLE_SYMLINKS": "1"}
        folder = pathlib.Path(self.download(env=env)["folder"])
        self.assertEqual([p for p in folder.rglob("*") if p.is_symlink()], [])
        self.check_tree(folder)
        self.check_cache()
        self.assertEqual(self.requests(lambda: python(PULL, "admin/net", json.dumps({"revision": self.commit}), env=env)), [])

    def test_new_commit_takes_only_what_changed(self):
        source = self.home / "source"
        shutil.copytree(self.source, source)
        python(PUSH, "admin/moving", source, env=self.env)
        self.download("admin/moving")
        (source / "config.json").write_text('{"a": 2}\n')
        commit = python(PUSH, "admin/moving", source, env=self.env)
        got = self.download("admin/moving")
        self.assertEqual((got["commit"], got["downloaded"]), (commit, 9))
        self.assertEqual(tree(got["folder"]), tree(source) | {".gitattributes": tree(got["folder"])[".gitattributes"]})
        self.check_cache()
        client.tool("cache", "rm", "admin/moving", commit, env=self.env)
        self.check_cache()

    def test_out_of_xets_store(self):
        asked = self.requests(lambda: self.download(xet=True))
        self.assertEqual([line for line in asked if "/resolve/" in line and ".safetensors" in line], [])
        self.assertTrue([line for line in asked if "/v2/reconstructions/" in line])
        self.check_tree(self.cache / "models--admin--net/snapshots" / self.commit)
        self.check_cache()

    def test_packed_bytes_are_fewer_and_go_on_later(self):
        source = self.home / "source"
        source.mkdir()
        words = [random.Random(i).randbytes(7) for i in range(1000)]
        (source / "model.safetensors").write_bytes(b"".join(random.Random(3).choices(words, k=9_000_000)))
        python(PUSH, "admin/packed", source, env=self.env)
        self.download("admin/packed", xet=True, env=self.env | {"HUB_TOOL_LIMIT": "10000000"}, expect=1)
        got = self.download("admin/packed", xet=True)
        self.assertLess(got["downloaded"], 50_000_000)
        self.assertEqual(tree(got["folder"])["model.safetensors"], tree(source)["model.safetensors"])
        # What the one way began the other ends.
        client.tool("cache", "rm", "admin/packed", env=self.env)
        self.download("admin/packed", env=self.env | {"HUB_TOOL_LIMIT": "10000000"}, expect=1)
        self.assertLess(self.download("admin/packed", xet=True)["downloaded"], 63_000_000)
        self.check_cache()

    def test_cancelled_goes_on_later(self):
        stopped = self.cancel_half_way()
        self.assertEqual(stopped["message"], "cancelled")
        self.assertFalse((self.cache / "models--admin--net/refs/main").exists())
        got = self.download()
        self.assertLess(got["downloaded"], 30_000_000)
        self.check_tree(got["folder"])
        self.check_cache()

    def test_damaged_part_starts_again(self):
        self.cancel_half_way()
        part, = (self.cache / "models--admin--net/blobs").glob("*.part")
        with open(part, "r+b") as file:
            file.write(b"x" * 100)
        got = self.download()
        self.assertIn("model.safetensors: what was there is damaged; starting again", got["events"])
        self.check_tree(got["folder"])
        self.check_cache()

    def test_disk_that_is_too_small(self):
        small = self.home / "small"
        small.mkdir()
        script = f"mount -t tmpfs -o size=8m tmpfs {small} && exec {client.TOOL} download admin/net '{json.dumps({'cache_dir': str(small)})}'"
        done = harness.run("unshare", "-rm", "sh", "-c", script, env=self.env, expect=1)
        self.assertRegex(done.stderr, r"40\.\d MB are to come, only \d\.\d MB are free")


if __name__ == "__main__":
    unittest.main()
