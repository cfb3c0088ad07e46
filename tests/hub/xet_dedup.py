"""What Xet is for: bytes sent and stored once, hashes equal to hf_xet's, and no file read through another's chunks."""
import hashlib, json, os, pathlib, shutil, sqlite3, sys, tempfile, unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness
from harness import run_python


def floats(seed, count=1_500_000):
    import numpy
    return numpy.random.default_rng(seed).standard_normal(count).astype("float32")


def upload(env, repo, path):
    return run_python(f"""
import json
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("{repo}", exist_ok=True)
api.upload_file(path_or_fileobj={str(path)!r}, path_in_repo="weights.bin", repo_id="{repo}")
print(json.dumps(1))
""", env)


class Dedup(unittest.TestCase):
    def setUp(self):
        self.hub = harness.Hub()
        self.addCleanup(self.hub.close)
        self.alice, self.bob = self.hub.user("alice"), self.hub.user("bob")
        self.scratch = pathlib.Path(tempfile.mkdtemp(dir=self.hub.folder))

    def file(self, name, content):
        (self.scratch / name).write_bytes(content)
        return self.scratch / name

    def stored(self):
        return sum(p.stat().st_size for p in (self.hub.data / "blobs/xorbs").rglob("*") if p.is_file())

    def sent(self):
        total = sum(json.loads(line)["bytes_in"] for line in self.hub.log_text().splitlines() if "/xorbs/" in line)
        return total

    def test_a_changed_file_sends_its_change(self):
        values = floats(1)
        env = self.hub.env(self.alice)
        upload(env, "alice/one", self.file("a", values.tobytes()))
        stored, sent = self.stored(), self.sent()
        changed = values.copy()
        changed[700_000:700_050] = 1.0
        data = changed.tobytes()
        path = self.file("b", data[:3_000_000] + b"8 bytes!" + data[3_000_000:])
        upload(env, "alice/one", path)
        self.assertLess(self.sent() - sent, 0.1 * len(data))
        self.assertLess(self.stored() - stored, 0.1 * len(data))
        # Another machine, another repository: the hub is asked for known chunks.
        sent = self.sent()
        upload(self.hub.env(self.alice), "alice/two", path)
        self.assertLess(self.sent() - sent, 0.1 * len(data))
        self.assertEqual(self.hub.cli("fsck")["problems"], [])

    def test_the_same_file_through_each_door_is_stored_once(self):
        path = self.file("a", floats(2).tobytes())
        upload(self.hub.env(self.alice), "alice/xet", path)
        stored = self.stored()
        upload(self.hub.env(self.alice, HF_HUB_DISABLE_XET="1"), "alice/lfs", path)
        self.assertEqual(self.stored(), stored)

    def test_hashes_are_those_of_hf_xet(self):
        path = self.file("a", floats(3).tobytes())
        for name, off in (("alice/xet", "0"), ("alice/lfs", "1")):
            upload(self.hub.env(self.alice, HF_HUB_DISABLE_XET=off), name, path)
            expected = run_python(f"""
import hf_xet, json
print(json.dumps(hf_xet.hash_files([{str(path)!r}])[0].hash))
""", self.hub.env())
            tree = {e["path"]: e for e in self.hub.call("GET", f"/api/models/{name}/tree/main")[2]}
            self.assertEqual(tree["weights.bin"]["xetHash"], expected)
            self.assertEqual(tree["weights.bin"]["lfs"]["oid"], hashlib.sha256(path.read_bytes()).hexdigest())

    def test_chunks_of_a_private_repository_give_nothing_to_others(self):
        values = floats(4)
        env = self.hub.env(self.alice)
        run_python("from huggingface_hub import HfApi; HfApi().create_repo('alice/private', private=True); print(1)", env)
        upload(env, "alice/private", self.file("a", values.tobytes()))
        sent = self.sent()
        upload(self.hub.env(self.bob), "bob/copy", self.file("b", values.tobytes()))
        self.assertGreater(self.sent() - sent, 0.8 * values.nbytes)  # no answer told that the chunks exist
        tree = {e["path"]: e for e in self.hub.call("GET", "/api/models/alice/private/tree/main", self.alice)[2]}
        xet, oid = tree["weights.bin"]["xetHash"], tree["weights.bin"]["lfs"]["oid"]
        self.hub.call("POST", "/api/repos/create", self.bob, {"name": "empty"})
        token = self.hub.call("GET", "/api/models/bob/empty/xet-write-token/main", self.bob)[2]
        path = token["casUrl"][len(self.hub.url):]
        for version in ("v1", "v2"):
            status, _, _ = self.hub.call("GET", f"{path}/{version}/reconstructions/{xet}", token["accessToken"])
            self.assertEqual(status, 404)
        commit = json.dumps({"key": "header", "value": {"summary": "steal"}}) + "\n" + json.dumps(
            {"key": "lfsFile", "value": {"path": "x", "algo": "sha256", "oid": oid, "size": values.nbytes}})
        status, _, _ = self.hub.call("POST", "/api/models/bob/empty/commit/main", self.bob, commit.encode(),
                                     {"Content-Type": "application/x-ndjson"})
        self.assertEqual(status, 400)

    def test_what_was_deleted_can_be_uploaded_again(self):
        """The client remembers that it uploaded it, sends it no second time and asks nobody."""
        env, path = self.hub.env(self.alice), self.file("a", os.urandom(3_000_000))

        def once(name):
            code = f"from huggingface_hub import HfApi; HfApi().create_repo({name!r}, private=True); print(1)"
            run_python(code, env)
            upload(env, name, path)
            content = self.hub.call("GET", f"/{name}/resolve/main/weights.bin", self.alice, raw=True)[2]
            self.assertEqual(content, path.read_bytes())
            self.hub.call("DELETE", "/api/repos/delete", self.alice, {"name": name.split("/")[1]})

        def expire():
            with sqlite3.connect(self.hub.data / "hub.db", timeout=300) as database:
                for table in ("xorbs", "xorb_access", "files", "repo_objects"):
                    database.execute(f"UPDATE {table} SET lease_until = 1")
            database.close()
        once("alice/one")
        once("alice/two")
        expire()
        self.hub.cli("gc")
        sent = self.sent()
        once("alice/three")
        self.assertEqual(self.sent(), sent)
        expire()
        self.assertGreater(self.hub.cli("gc", "--all")["bytes"], 2_900_000)
        with self.assertRaisesRegex(AssertionError, "delete .HF_HOME/xet"):
            once("alice/four")
        shutil.rmtree(pathlib.Path(env["HF_HOME"]) / "xet")
        upload(env, "alice/four", path)
        self.assertEqual(self.hub.cli("fsck")["problems"], [])

    def test_deleting_frees(self):
        path = self.file("a", os.urandom(3_000_000))
        upload(self.hub.env(self.alice), "alice/gone", path)
        upload(self.hub.env(self.alice), "alice/stays", self.file("b", os.urandom(3_000_000)))
        self.hub.call("DELETE", "/api/repos/delete", self.alice, {"name": "gone"})
        self.hub.cli("gc")
        self.assertEqual(self.hub.cli("fsck")["problems"], [])
        self.assertGreaterEqual(self.stored(), 3_000_000)


if __name__ == "__main__":
    unittest.main()
