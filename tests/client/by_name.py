"""Models by name: push_to_hub proves what it publishes; from_pretrained takes one commit of it, its code from where it says."""
import json, os, pathlib, signal, subprocess, unittest

import client, harness
import numpy
from safetensors.numpy import load_file, save_file

COMMAND = os.environ["PRETRAINED_COMMAND"]
PUSH = pathlib.Path(COMMAND).parent / "push_tool"


class ByName(client.HubTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.alice = cls.tokens["alice"]
        cls.env = cls.hub.env(cls.alice)
        save_file({"tensor": numpy.ones((2, 4), "float32")}, cls.folder / "x.safetensors")

    def push(self, what, repo, expect=0):
        return harness.run(PUSH, what, repo, env=self.env, expect=expect)

    def predict(self, *words, env=None, expect=0, trust=True, cwd=None):
        """The output tensor, or the finished process where it failed."""
        out = self.folder / "y.safetensors"
        done = harness.run(COMMAND, "predict", *words, "--input", self.folder / "x.safetensors", "--output", out,
                           *["--trust-remote-code"] * trust, env=env or self.env, expect=expect, cwd=cwd)
        return done if expect else load_file(out)["output"]

    def commits(self, repo):
        return [c["title"] for c in self.hub.call("GET", f"/api/models/{repo}/commits/main", self.alice)[2]]

    def upload(self, repo, files, source=None):
        """A commit of files given as text, made by Python; its id."""
        return harness.run_python(f"""
import json
from huggingface_hub import HfApi, CommitOperationAdd, snapshot_download
api = HfApi()
api.create_repo({repo!r}, exist_ok=True)
if {source!r}:
    api.upload_folder(folder_path=snapshot_download({source!r}), repo_id={repo!r}, ignore_patterns=["*.h"])
files = {files!r}
print(json.dumps(api.create_commit({repo!r}, [CommitOperationAdd(k, v.encode()) for k, v in files.items()],
                                   commit_message="files").oid))
""", self.env)

    def config_of(self, repo):
        status, _, text = self.hub.call("GET", f"/{repo}/resolve/main/config.json", self.alice, raw=True)
        self.assertEqual(status, 200)
        return json.loads(text)

    def test_pushed_loads_by_name_and_commit(self):
        oid = self.push("plain", "plain").stdout.split()[0]
        self.assertEqual(self.predict("alice/plain").tolist(), [[1] * 4] * 2)
        fresh = self.hub.env(self.alice)
        self.assertEqual(self.predict(f"alice/plain@{oid}", env=fresh).tolist(), [[1] * 4] * 2)
        again = self.push("plain", "alice/plain")
        self.assertEqual(again.stdout.split()[0], oid, "nothing changed, no commit")
        self.assertEqual(self.commits("alice/plain"), ["Upload model", "initial commit"])

    def test_one_that_gives_other_numbers_is_not_published(self):
        done = self.push("changed", "changed", expect=1)
        self.assertIn("'output' differs", done.stderr)
        self.assertEqual(self.hub.call("GET", "/api/models/alice/changed", self.alice)[0], 404)

    def test_a_secret_in_the_code_is_not_published(self):
        done = self.push("secret", "secret", expect=4)
        self.assertIn("secret.h: line 4", done.stderr)
        self.assertNotIn("hf_k7Qz", done.stderr)
        self.assertNotIn("Upload model", self.commits("alice/secret"))

    def test_shards_and_configs(self):
        done = self.push("shards", "shards")
        self.assertIn("does not take a random image", done.stderr)
        tree = {f["path"] for f in self.hub.call("GET", "/api/models/alice/shards/tree/main", self.alice)[2]}
        self.assertIn("model.safetensors.index.json" if "model.safetensors" not in tree else "model.safetensors", tree)
        self.push("config", "only-config")
        self.assertEqual(self.config_of("alice/only-config")["hidden_size"], 5)
        self.assertIn("no file named", self.predict("alice/only-config", "--code", self.pinned(), expect=3).stderr)

    def test_what_a_killed_push_left_goes_with_the_next(self):
        scratch = self.folder / "scratch"
        scratch.mkdir()
        env = self.env | {"TMPDIR": str(scratch)}
        process = subprocess.Popen([PUSH, "shards", "killed"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (left := list(scratch.glob("pretrained-push-*/*"))) and process.poll() is None:
            pass
        process.send_signal(signal.SIGINT)
        process.wait()
        self.assertTrue(left, "it was too fast")
        (scratch / "pretrained-push-ours").symlink_to(self.folder)
        harness.run(PUSH, "plain", "killed", env=env)
        self.assertEqual([p.name for p in scratch.glob("pretrained-push-*")], ["pretrained-push-ours"])

    def pinned(self):
        oid = self.push("plain", "code").stdout.split()[0]
        return f"alice/code@{oid}"

    def test_code_in_another_repository(self):
        code = self.pinned()
        config = self.config_of("alice/code")
        config["auto_map_cpp"] = {name: f"{code}--{value}" for name, value in config["auto_map_cpp"].items()}
        self.upload("alice/foreign", {"config.json": json.dumps(config)}, source="alice/code")
        stranger = self.hub.env(self.alice)
        refused = self.predict("alice/foreign", trust=False, env=stranger, expect=4).stderr
        self.assertIn(f"{code} holds C++ code", refused)
        cached = [p.name for p in (pathlib.Path(stranger["HF_HOME"]) / "hub").glob("models--*")]
        self.assertEqual(cached, ["models--alice--foreign"], "nothing of the code was fetched")
        self.assertEqual(self.predict("alice/foreign").tolist(), [[1] * 4] * 2)
        branch = {name: value.replace(code, "alice/code@main") for name, value in config["auto_map_cpp"].items()}
        self.upload("alice/foreign", {"config.json": json.dumps(config | {"auto_map_cpp": branch})})
        self.predict("alice/foreign", expect=5)
        mixed = config["auto_map_cpp"] | {"AutoConfig": "stateful.StatefulConfig"}
        self.upload("alice/foreign", {"config.json": json.dumps(config | {"auto_map_cpp": mixed})})
        self.assertIn("from one repository", self.predict("alice/foreign", expect=5).stderr)

    def test_a_commit_is_never_a_folder(self):
        code = self.pinned()
        here = self.folder / "here"
        for name in (code, "alice/code"):
            (here / name).mkdir(parents=True)
            (here / name / "config.json").write_text("[]")
        self.assertEqual(self.predict(code, cwd=here).tolist(), [[1] * 4] * 2)
        harness.run(COMMAND, "lock", code, "-o", here / "x.lock", env=self.env, cwd=here)
        for name in ("alice/code", f"./{code}"):
            self.assertIn("config.json", self.predict(name, cwd=here, expect=5).stderr)
        said = self.predict("alice/code", "--revision", "dev", cwd=here, expect=2).stderr
        self.assertIn("alice/code is a folder, which has no revision 'dev'", said)

    def test_what_is_fetched_before_anything_is_known_is_bounded(self):
        self.push("plain", "large")
        (self.folder / "trainer_state.json").write_bytes(b" " * 70_000_000 + b"{}")
        harness.run(COMMAND, "upload", "large", self.folder / "trainer_state.json", env=self.env)
        stranger = self.hub.env(self.alice)
        said = self.predict("alice/large", env=stranger, expect=5).stderr
        self.assertIn("trainer_state.json has 70.0 MB, at most 67.1 MB are fetched unasked: `pretrained download alice/large@", said)
        harness.run(COMMAND, "download", "alice/large", env=stranger)
        self.assertEqual(self.predict("alice/large", env=stranger).tolist(), [[1] * 4] * 2)

    def test_a_device_that_is_not_there(self):
        self.push("plain", "device")
        env = self.env | {"CUDA_VISIBLE_DEVICES": ""}
        for device in ("cuda", "cuda:0"):
            said = self.predict("alice/device", "--device", device, env=env, expect=2).stderr
            self.assertEqual(said, f"pretrained: --device {device}: LibTorch finds no CUDA device here; use --device cpu\n")

    def test_private_means_private(self):
        self.push("plain", "public")
        said = self.push("private", "public", expect=1).stderr
        self.assertIn("alice/public exists and is public, not private", said)
        self.push("private", "hidden")
        self.assertTrue(self.hub.call("GET", "/api/models/alice/hidden", self.alice)[2]["private"])

    def test_offline_takes_what_is_cached_and_says_what_is_not(self):
        self.push("plain", "offline")
        self.predict("alice/offline")
        offline = self.env | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
        self.assertEqual(self.predict("alice/offline", env=offline).tolist(), [[1] * 4] * 2)
        done = self.predict("alice/never-seen", env=offline, expect=6)
        self.assertIn("alice/never-seen", done.stderr)

    def test_names_that_are_none(self):
        self.assertIn("no such folder", self.predict("nowhere", expect=3).stderr)
        self.assertIn("alice/nowhere", self.predict("alice/nowhere", expect=3).stderr)
        self.push("plain", "revisions")
        self.assertIn("no-such-branch", self.predict("alice/revisions@no-such-branch", expect=3).stderr)
        self.upload("alice/empty", {"README.md": "nothing"})
        self.assertIn("config.json", self.predict("alice/empty", expect=3).stderr)


if __name__ == "__main__":
    unittest.main()
