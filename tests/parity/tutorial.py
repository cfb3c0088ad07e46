"""The tutorial both ways, on a hub of our own: every line runs; Python saves → we load; we save beside Python's code → Python
loads; each pushes → the other loads by name. Logits agree."""
import json, os, pathlib, shutil, subprocess, sys, tempfile, unittest

BUILD = pathlib.Path(os.environ["PRETRAINED_COMMAND"]).parent
EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
scratch = tempfile.TemporaryDirectory()
os.environ["PRETRAINED_TRUST_FILE"] = scratch.name + "/trust.json"
os.environ["HF_MODULES_CACHE"] = scratch.name + "/modules"
sys.path.insert(0, str(EXAMPLES))
import python.peers  # noqa: F401
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "hub"))
import harness
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageClassification
from python.configuration_resnet import ResnetConfig
from python.modeling_resnet import ResnetModel, ResnetModelForImageClassification

COMMAND = os.environ["PRETRAINED_COMMAND"]


def run(*argv, expect=0, **kwargs):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **kwargs)
    assert done.returncode == expect, f"{argv}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


class Tutorial(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(scratch.name)
        cls.hub = harness.Hub()
        cls.addClassCleanup(cls.hub.close)
        torch.manual_seed(0)
        cls.publish_timm()
        cls.run_tutorial()
        cls.ours = cls.root / "tutorial/custom-resnet50d"
        cls.x = torch.rand(2, 3, 96, 96)
        save_file({"tensor": cls.x, "labels": torch.tensor([3, 5])}, cls.root / "x.safetensors")
        save_file({"tensor": cls.x}, cls.root / "only-x.safetensors")
        ResnetConfig.register_for_auto_class()
        ResnetModel.register_for_auto_class("AutoModel")
        ResnetModelForImageClassification.register_for_auto_class("AutoModelForImageClassification")
        config = ResnetConfig(block_type="bottleneck", stem_width=32, stem_type="deep", avg_down=True)
        cls.model = ResnetModelForImageClassification(config).eval()
        for module in cls.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.data.uniform_(0.5, 1.5)
        cls.python = cls.root / "python"
        cls.model.save_pretrained(cls.python)

    @classmethod
    def publish_timm(cls):
        """What timm's authors did for resnet50d, with random weights."""
        cls.hub.cli("org", "create", "timm", "--admin", "admin")
        cls.timm = timm.create_model("resnet50d").eval()
        folder = cls.root / "timm"
        folder.mkdir()
        timm.models.save_for_hf(cls.timm, folder, safe_serialization="both")
        harness.run(harness.PYTHON, "-m", "huggingface_hub.cli.hf", "upload", "timm/resnet50d.ra2_in1k", folder, ".",
                    env=cls.hub.env(cls.hub.admin))

    @classmethod
    def run_tutorial(cls):
        cls.alice = cls.hub.user("alice")
        cls.hub.cli("user", "password", "alice", stdin="correct horse\n")
        cls.hub.cli("org", "create", "robots", "--admin", "alice")
        cls.env = cls.hub.env()
        process = subprocess.Popen([BUILD / "tutorial", cls.root / "tutorial", "robots"], env=cls.env, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said = harness.approve_login(cls.hub, process.stderr, "alice", "correct horse")
        cls.listing, errors = process.communicate(timeout=300)
        assert process.returncode == 0, said + cls.listing + errors

    def assert_close(self, ours, theirs):
        self.assertEqual(ours.shape, theirs.shape)
        self.assertLessEqual((ours - theirs).abs().max().item(), 1e-5 * theirs.abs().max().item())

    def predict(self, *argv, name="x.safetensors"):
        out = self.root / "y.safetensors"
        run(COMMAND, "predict", *argv, "--input", self.root / name, "--output", out, "--quiet")
        return load_file(out)

    def test_every_listing_runs(self):
        self.assertIn("logits equal: 1", self.listing)
        self.assertIn("registered class, no code compiled: 1", self.listing)
        files = {p.name for p in self.ours.iterdir()}
        self.assertIn("logged in: alice", self.listing)
        self.assertEqual(files, {"config.json", "model.safetensors", "configuration_resnet.h", "modeling_resnet.h"})
        config = (self.ours / "config.json").read_text()
        for line in ('"AutoConfig": "configuration_resnet.ResnetConfig"', '"AutoModel": "modeling_resnet.ResnetModel"',
                     '"AutoModelForImageClassification": "modeling_resnet.ResnetModelForImageClassification"'):
            self.assertIn(line, config)

    def commit(self, repo):
        return harness.re.search(rf"pushed: \S+/{repo}/commit/([0-9a-f]{{40}})", self.listing).group(1)

    def test_a_fresh_machine_loads_it_by_name(self):
        commit = self.commit("robots/custom-resnet50d")
        env = self.hub.env(self.alice)
        out = self.root / "fresh.safetensors"
        words = ["predict", f"robots/custom-resnet50d@{commit}", "--input", self.root / "only-x.safetensors", "--output", out]
        done = run(COMMAND, *words, env=env, expect=4)
        self.assertIn(f"robots/custom-resnet50d@{commit} holds C++ code", done.stderr)
        run(COMMAND, *words, "--trust-remote-code", env=env)
        with torch.no_grad():
            self.assert_close(load_file(out)["logits"], self.timm(self.x))
        stranger = self.hub.env(self.hub.user("mallory"))
        self.assertIn("robots/custom-resnet50d", run(COMMAND, *words, "--trust-remote-code", env=stranger, expect=3).stderr)
        run(COMMAND, *words, "--trust-remote-code", env=env | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"})

    def test_the_repository_is_whole(self):
        listed = self.hub.call("GET", "/api/models/alice/custom-resnet50d/tree/main", self.alice)[2]
        self.assertEqual({f["path"] for f in listed}, {".gitattributes", "README.md", "config.json", "model.safetensors",
                                                       "configuration_resnet.h", "modeling_resnet.h"})
        commits = self.hub.call("GET", "/api/models/alice/custom-resnet50d/commits/main", self.alice)[2]
        self.assertEqual([c["title"] for c in commits], ["Upload model", "initial commit"])
        info = self.hub.call("GET", "/api/models/alice/custom-resnet50d", self.alice)[2]
        self.assertEqual((info["library_name"], info["private"]), ("pretrained", False))
        self.assertTrue(self.hub.call("GET", "/api/models/robots/custom-resnet50d", self.alice)[2]["private"])
        listed = self.hub.call("GET", "/api/models/alice/custom-resnet/tree/main", self.alice)[2]
        self.assertIn("config.json", {f["path"] for f in listed})

    def test_ours_by_name_in_python_and_theirs_in_cpp(self):
        env = self.hub.env(self.alice)
        save_file({"tensor": self.x}, self.root / "x1.safetensors")
        theirs = harness.run_python(f"""
import json, sys
sys.path.insert(0, {str(EXAMPLES)!r})
import python.peers, torch
from safetensors.torch import load_file
from python.configuration_resnet import ResnetConfig
from python.modeling_resnet import ResnetModelForImageClassification
ResnetConfig.register_for_auto_class()
ResnetModelForImageClassification.register_for_auto_class("AutoModelForImageClassification")
model = ResnetModelForImageClassification.from_pretrained("alice/custom-resnet50d").eval()
model.push_to_hub("alice/from-python")
with torch.no_grad():
    print(json.dumps(model(load_file({str(self.root / "x1.safetensors")!r})["tensor"])["logits"].tolist()))
""", env)
        code = f"alice/custom-resnet50d@{self.commit('alice/custom-resnet50d')}"
        out = self.root / "from-python.safetensors"
        words = ["predict", "alice/from-python", "--input", self.root / "x1.safetensors", "--output", out, "--trust-remote-code"]
        run(COMMAND, *words, "--code", code, env=env)
        self.assert_close(load_file(out)["logits"], torch.tensor(theirs))
        # Python keeps our map of classes and copies only its own files.
        self.assertIn("neither configuration_resnet.h nor", run(COMMAND, *words, env=env, expect=3).stderr)
        self.assertIn(code, run(COMMAND, *words, "--code", "alice/custom-resnet50d", env=env, expect=2).stderr)

    def test_python_saves_we_load(self):
        outputs = self.predict(self.python, "--code", self.ours, "--trust-remote-code")
        with torch.no_grad():
            theirs = self.model(self.x, torch.tensor([3, 5]))
        self.assert_close(outputs["logits"], theirs["logits"])
        self.assert_close(outputs["loss"], theirs["loss"])
        self.assertEqual(set(self.predict(self.python, "--code", self.ours, "--trust-remote-code", name="only-x.safetensors")), {"logits"})

    def test_we_save_python_loads(self):
        # A Python author's folder, then our weights, config and code saved into it: both sides must load it.
        folder = self.root / "both"
        shutil.copytree(self.python, folder)
        run(BUILD / "tutorial_resave", self.ours, folder)
        self.assertTrue((folder / "modeling_resnet.py").exists())
        self.assertTrue((folder / "modeling_resnet.h").exists())
        model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True).eval()
        with torch.no_grad():
            theirs = model(self.x)["logits"]
        self.assert_close(self.predict(folder, "--trust-remote-code")["logits"], theirs)
        self.assert_close(self.predict(self.ours, "--trust-remote-code")["logits"], theirs)

    def test_saving_a_python_folder_elsewhere_takes_its_python_code_along(self):
        folder = self.root / "elsewhere"
        run(BUILD / "tutorial_resave", self.python, folder)
        self.assertEqual({p.name for p in folder.iterdir()} - {"configuration_resnet.h", "modeling_resnet.h"},
                         {"config.json", "model.safetensors", "configuration_resnet.py", "modeling_resnet.py"})
        model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True).eval()
        with torch.no_grad():
            self.assert_close(model(self.x)["logits"], self.model(self.x)["logits"])

    def test_no_trust_no_code(self):
        done = run(COMMAND, "predict", self.ours, "x.png", expect=4)
        self.assertIn("configuration_resnet.h, modeling_resnet.h", done.stderr)
        done = run(COMMAND, "predict", self.python, "x.png", "--trust-remote-code", expect=3)
        self.assertIn("holds only Python code", done.stderr)
        self.assertIn("--code", done.stderr)

    def test_weights_that_do_not_fit_are_an_error(self):
        folder = self.root / "broken"
        shutil.copytree(self.ours, folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["model.fc.wieght"] = tensors.pop("model.fc.weight")
        save_file(tensors, folder / "model.safetensors")
        done = run(COMMAND, "predict", folder, "x.png", "--trust-remote-code", expect=5)
        self.assertIn("1 missing: model.fc.weight", done.stderr)
        self.assertIn("1 unexpected: model.fc.wieght", done.stderr)


if __name__ == "__main__":
    unittest.main()
