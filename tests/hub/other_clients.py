"""The JavaScript client, `hf`, Transformers, and huggingface_hub of the two older lines (0.x, 1.x)."""
import json, os, pathlib, random, re, shutil, subprocess, sys, tempfile, threading, unittest, urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness
from harness import PEERS, PYTHON, run, run_python

BIG = random.Random(5).randbytes(6_000_000)


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = harness.Hub()
        cls.alice = cls.hub.user("alice")

    @classmethod
    def tearDownClass(cls):
        problems = cls.hub.cli("fsck")["problems"]
        cls.hub.close()
        assert not problems, problems

    def test_javascript(self):
        folder = PEERS / "js"
        shutil.copy(pathlib.Path(__file__).parent / "js_client.mjs", folder / "js_client.mjs")
        for xet in ("1", "0"):
            done = run("node", "js_client.mjs", self.hub.url, self.alice, env=self.hub.env(HUB_TEST_XET=xet), cwd=folder)
            self.assertIn("everything held", done.stdout)

    def test_javascript_multipart(self):
        with harness.hub("--lfs-part-size", "5MB") as server:
            done = run("node", "js_client.mjs", server.url, server.user("alice"), env=server.env(HUB_TEST_XET="0"), cwd=PEERS / "js")
            self.assertIn("everything held", done.stdout)

    def hf(self, *words, env, expect=0):
        return run(PYTHON, "-m", "huggingface_hub.cli.hf", *words, env=env, expect=expect)

    def test_hf_command(self):
        env = self.hub.env(self.alice)
        self.assertIn("alice", self.hf("auth", "whoami", env=env).stdout)
        self.hf("repos", "create", "cli", "--private", env=env)
        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "a.txt").write_text("a")
        (folder / "big.bin").write_bytes(BIG)
        self.hf("upload", "alice/cli", folder, ".", env=env)
        self.hf("upload", "alice/cli", folder / "a.txt", "again.txt", "--revision", "new", env=env)
        self.hf("upload", "alice/cli", folder / "a.txt", "pr.txt", "--create-pr", env=env)
        target = pathlib.Path(tempfile.mkdtemp())
        self.hf("download", "alice/cli", "--local-dir", target, env=env)
        self.assertEqual((target / "big.bin").read_bytes(), BIG)
        self.assertIn("alice/cli", self.hf("models", "ls", "--author", "alice", "--json", env=env).stdout)
        self.hf("repos", "tag", "create", "alice/cli", "v1", env=env)
        self.hf("download", "alice/cli", "again.txt", "--revision", "new", env=env)

    def test_device_login(self):
        self.hub.cli("user", "password", "alice", stdin="correct horse\n")
        env = self.hub.env(HF_DEBUG="0")
        process = subprocess.Popen([PYTHON, "-m", "huggingface_hub.cli.hf", "auth", "login"], env=env, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text = ""
        for line in process.stdout:
            text += line
            found = re.search(r"\b([A-Z0-9]{4}-[A-Z0-9]{4})\b", text)
            address = re.search(re.escape(self.hub.url) + r"\S*", text)
            if found and address:
                break
        else:
            self.fail(text)
        page = self.hub.call("GET", urllib.parse.urlsplit(address.group(0)).path, raw=True)[2].decode()
        self.assertIn("<form", page)
        fields = {m[0]: m[1] for m in re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)}
        fields |= {"user_code": found.group(1), "name": "alice", "password": "correct horse", "decision": "approve"}
        action = re.search(r'<form[^>]*action="([^"]+)"', page).group(1)
        wrong = fields | {"password": "wrong"}
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.hub.url}
        status, _, _ = self.hub.call("POST", action, body=urllib.parse.urlencode(wrong).encode(), headers=form)
        self.assertIn(status, (401, 403))
        status, _, body = self.hub.call("POST", action, body=urllib.parse.urlencode(fields).encode(), headers=form, raw=True)
        self.assertEqual(status, 200, body)
        rest, _ = process.communicate(timeout=600)
        self.assertEqual(process.returncode, 0, text + rest)
        env.pop("HF_TOKEN", None)
        self.assertIn("alice", self.hf("auth", "whoami", env=env).stdout)

    def old_client(self, version, number):
        python = PEERS / f"hf-{number}/bin/python"
        env = self.hub.env(self.alice)
        code = f"""
import huggingface_hub, json, pathlib, tempfile, random
from huggingface_hub import HfApi, snapshot_download, CommitOperationAdd
assert huggingface_hub.__version__.startswith("{version}"), huggingface_hub.__version__
api = HfApi()
repo = api.create_repo("alice/old-{number}", private=True).repo_id
big = random.Random(5).randbytes(6_000_000)
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "a.txt").write_text("a")
(folder / "big.bin").write_bytes(big)
api.upload_folder(folder_path=folder, repo_id=repo)
api.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id=repo)
path = pathlib.Path(snapshot_download(repo, cache_dir=tempfile.mkdtemp()))
assert (path / "big.bin").read_bytes() == big
api.create_branch(repo, branch="dev")
api.create_tag(repo, tag="v1")
api.create_commit(repo, [CommitOperationAdd("p.txt", b"p")], commit_message="pr", create_pr=True)
try:
    api.update_repo_settings(repo, private=False)
except AttributeError:
    api.update_repo_visibility(repo, private=False)
assert api.model_info(repo).private is False
print(json.dumps(sorted(api.list_repo_files(repo))))
"""
        for xet_off in ("0", "1"):
            files = run_python(code.replace("old-", f"old-{xet_off}-"), env | {"HF_HUB_DISABLE_XET": xet_off}, python)
            self.assertEqual(files, [".gitattributes", "a.txt", "b.txt", "big.bin"])

    def test_huggingface_hub_0(self):
        self.old_client("0.36", 0)

    def test_huggingface_hub_1(self):
        self.old_client("1.10", 1)

    def test_transformers(self):
        done = run_python("""
import os, json, tempfile
import python.peers
import torch
from transformers import AutoModel, AutoConfig, BertConfig, BertModel
config = BertConfig(vocab_size=500, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
model = BertModel(config)
model.push_to_hub("alice/bert", private=True)
again = AutoModel.from_pretrained("alice/bert", cache_dir=tempfile.mkdtemp())
same = all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
from huggingface_hub import HfApi
info = HfApi().model_info("alice/bert")
print(json.dumps([same, info.config["model_type"], info.safetensors.total]))
""", self.hub.env(self.alice, TRANSFORMERS_VERBOSITY="error", PYTHONPATH=harness.ROOT / "examples"))
        self.assertEqual(done[:2], [True, "bert"])
        self.assertGreater(done[2], 50_000)


if __name__ == "__main__":
    unittest.main()
