"""The tutorial both ways: all listings run; Python saves → we load; we save beside Python's code → Python loads. Logits agree."""
import os, pathlib, shutil, subprocess, sys, tempfile, unittest

BUILD = pathlib.Path(os.environ["PRETRAINED_COMMAND"]).parent
EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
scratch = tempfile.TemporaryDirectory()
os.environ["HF_MODULES_CACHE"] = scratch.name + "/modules"
sys.path.insert(0, str(EXAMPLES))
import python.peers  # noqa: F401
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
        cls.listing = run(BUILD / "tutorial", cls.root / "tutorial").stdout
        cls.ours = cls.root / "tutorial/custom-resnet50d"
        torch.manual_seed(0)
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
        self.assertEqual(files, {"config.json", "model.safetensors", "configuration_resnet.h", "modeling_resnet.h"})
        config = (self.ours / "config.json").read_text()
        for line in ('"AutoConfig": "configuration_resnet.ResnetConfig"', '"AutoModel": "modeling_resnet.ResnetModel"',
                     '"AutoModelForImageClassification": "modeling_resnet.ResnetModelForImageClassification"'):
            self.assertIn(line, config)

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
