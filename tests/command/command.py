"""The verbs of `pretrained` that need LibTorch, as people and scripts meet them: output, exit codes, broken and hostile files."""
import json, os, pathlib, pty, shutil, struct, subprocess, tempfile, unittest

COMMAND = os.environ["PRETRAINED_COMMAND"]
scratch = tempfile.TemporaryDirectory()
root = pathlib.Path(scratch.name)
model = root / "my-model"
os.environ["PRETRAINED_TRUST_FILE"] = str(root / "trust.json")


def run(*argv, **kwargs):
    return subprocess.run([COMMAND, *map(str, argv)], capture_output=True, text=True, **kwargs)


def predict(*argv):
    return run("predict", model, *argv, "--trust-remote-code")


def run_on_terminal(*argv):
    master, slave = pty.openpty()
    process = subprocess.Popen([COMMAND, *map(str, argv)], stdout=slave, stderr=slave)
    os.close(slave)
    output = b""
    try:
        while part := os.read(master, 65536):
            output += part
    except OSError:  # Linux: the other side is closed
        pass
    os.close(master)
    process.wait()
    return output.decode()


def save_file(path, tensors):
    """A safetensors file of zeros: {name: shape}, float32."""
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 4
        for n in shape:
            size *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def setUpModule():
    done = run("new", model)
    assert done.returncode == 0, done.stderr
    done = predict(model / "test.png")  # trusts the code and says so, once
    assert "trusted from now on" in done.stderr, done.stderr


class Images(unittest.TestCase):
    def folder(self, name):
        folder = root / name
        folder.mkdir()
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def test_isolated_models_see_the_same_pictures(self):
        here, isolated = predict(model / "test.png", "--json"), run("predict", model, model / "test.png", "--json", "--isolate")
        self.assertEqual(isolated.returncode, 0, isolated.stderr)
        self.assertEqual(json.loads(here.stdout)["predictions"][0]["label"], json.loads(isolated.stdout)["predictions"][0]["label"])
        self.assertAlmostEqual(json.loads(here.stdout)["predictions"][0]["logit"], json.loads(isolated.stdout)["predictions"][0]["logit"], 4)

    def test_the_bar_is_gone_before_results(self):
        output = run_on_terminal("predict", model, model / "test.png", "--trust-remote-code")
        self.assertIn("loading [", output)
        self.assertIn(f"\r\x1b[K{model}/test.png", output)
        self.assertNotIn(f"left\x1b[K{model}", output)

    def test_the_bar_is_gone_between_batches(self):
        folder = self.folder("many")
        for i in range(5):
            shutil.copy(model / "test.png", folder / f"{i}.png")
        output = run_on_terminal("predict", model, folder, "--trust-remote-code", "--batch-size", "1")
        for i in range(5):
            self.assertNotIn(f"left\x1b[K{folder}/{i}.png", output)
            self.assertIn(f"{folder}/{i}.png", output)

    def test_a_broken_image_stops_no_other(self):
        folder = self.folder("some")
        shutil.copy(model / "test.png", folder / "a.png")
        (folder / "b.png").write_bytes((model / "test.png").read_bytes()[:200])
        (folder / "loop.jpg").symlink_to("loop.jpg")
        (folder / "loop").symlink_to("loop")
        (folder / "notes.txt").write_text("no image")
        shutil.copy(model / "test.png", folder / "z.png")
        done = predict(folder)
        self.assertEqual(done.returncode, 5)
        self.assertIn("a.png\n", done.stdout)
        self.assertIn("z.png\n", done.stdout)
        self.assertEqual([line.split(": ")[0] for line in done.stderr.splitlines()], [str(folder)] + ["pretrained"] * 3)
        self.assertIn("2 files that are no .jpg, .jpeg, .png or .webp skipped", done.stderr)
        self.assertIn("pretrained: 2 of 4 images could not be read", done.stderr)
        self.assertNotIn("skipped", predict(folder, "--quiet").stderr)
        lines = [json.loads(line) for line in predict(folder, "--json", "--batch-size", "2").stdout.splitlines()]
        self.assertEqual([(pathlib.Path(line["input"]).name, "error" in line) for line in lines],
                         [("a.png", False), ("b.png", True), ("loop.jpg", True), ("z.png", False)])
        self.assertIn("not a whole PNG", lines[1]["error"])

    def test_all_broken(self):
        (root / "bad.png").write_bytes(b"x")
        done = predict(root / "bad.png")
        self.assertEqual((done.returncode, done.stdout), (5, ""))
        self.assertIn("1 of 1 image could not be read", done.stderr)
        self.assertEqual(predict(root / "nothing.png").returncode, 3)

    def test_a_name_prints_one_harmless_line(self):
        bad = root / "bad\n\x1b[31m\u202e.png"
        bad.write_bytes(b"x")
        done = predict(bad)
        self.assertEqual(len(done.stderr.splitlines()), 2)
        self.assertIn("\\x0a\\x1b[31m\\u{202e}.png", done.stderr)
        done = run("inspect", str(bad) + "none")
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertNotIn("\x1b", done.stderr)

    def test_too_wide(self):
        try:
            from PIL import Image
        except ImportError:
            self.skipTest("no Pillow")
        Image.new("L", (70000, 4)).save(root / "wide.png")
        done = predict(root / "wide.png")
        self.assertEqual(done.returncode, 5)
        self.assertIn("wide.png: an image of 70000 × 4", done.stderr)


class Tensors(unittest.TestCase):
    def setUp(self):
        save_file(root / "x.safetensors", {"tensor": [1, 3, 64, 64]})
        self.out = root / "y.safetensors"

    def predict(self, folder, *argv):
        return run("predict", folder, "--input", root / "x.safetensors", "--output", self.out, "--trust-remote-code", *argv)

    def with_config(self, name, change):
        folder = root / name
        shutil.copytree(model, folder)
        self.addCleanup(shutil.rmtree, folder)
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    def test_json_is_a_summary(self):
        done = self.predict(model, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout), {
            "input": str(root / "x.safetensors"), "output": str(self.out),
            "tensors": [{"name": "logits", "dtype": "float32", "shape": [1, 3]}]})

    def test_the_only_class_is_taken(self):
        def rename(config):
            config["auto_map_cpp"]["AutoModel"] = config["auto_map_cpp"].pop("AutoModelForImageClassification")

        done = self.predict(self.with_config("bare", rename))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_of_several_the_saved_one(self):
        def add(config):
            classes = config["auto_map_cpp"]
            classes["AutoModelForMaskGeneration"] = classes.pop("AutoModelForImageClassification")
            classes["AutoModel"] = "modeling_my_model.Nothing"

        folder = self.with_config("several", add)
        done = self.predict(folder)
        self.assertEqual(done.returncode, 1, done.stderr)  # the code lacks the class Nothing
        self.assertIn("AutoModel'", done.stderr)

        def twice(config):
            classes = config["auto_map_cpp"]
            classes["AutoModelForMaskGeneration"] = classes["AutoModel"] = classes.pop("AutoModelForImageClassification")
            config["architectures"] = ["Other"]

        folder = self.with_config("twice", twice)
        done = self.predict(folder)
        self.assertEqual(done.returncode, 2)
        self.assertIn("name the Auto class (--auto-class), one of AutoModel, AutoModelForMaskGeneration", done.stderr)
        self.assertEqual(self.predict(folder, "--auto-class", "AutoModel").returncode, 0)


class Inspect(unittest.TestCase):
    def test_shards_are_checked(self):
        folder = root / "sharded"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        save_file(folder / "a.safetensors", {f"tensor{i}": [1] for i in range(1000)})
        names = ["a.safetensors"] + [f"link{i}.safetensors" for i in range(20)]
        for name in names[1:]:
            (folder / name).symlink_to("a.safetensors")
        weight_map = {f"tensor{i}": name for i, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        done = run("inspect", folder)
        self.assertEqual((done.returncode, done.stdout), (5, ""))
        self.assertIn(str(folder / "model.safetensors.index.json"), done.stderr)
        weight_map = {f"tensor{i}": "a.safetensors" for i in range(1000)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        done = run("inspect", folder, "--json")
        self.assertEqual(len(json.loads(done.stdout)["tensors"]), 1000)

    def test_what_is_accepted(self):
        done = run("inspect", model / "config.json")
        self.assertEqual(done.returncode, 5)
        self.assertIn("config.json: not a .safetensors file; inspect takes the folder of a model or a .safetensors file", done.stderr)
        self.assertEqual(run("inspect", model / "model.safetensors").returncode, 0)


class New(unittest.TestCase):
    def test_what_is_there(self):
        self.assertEqual(sorted(p.name for p in model.iterdir()),
                         ["CMakeLists.txt", "README.md", "config.json", "configuration_my_model.h", "model.safetensors",
                          "modeling_my_model.h", "preprocessor_config.json", "test.png", "train.cpp"])

    def test_stem_width_acts(self):
        shapes = {t["name"]: t["shape"] for t in json.loads(run("inspect", model, "--json").stdout)["tensors"]}
        self.assertEqual(shapes["model.conv1.0.weight"], [32, 3, 3, 3])
        done = run("predict", model, model / "test.png", "--trust-remote-code", "--code", self.other_stem())
        self.assertEqual(done.returncode, 0, done.stderr)  # config.json's value is the model's own

    def other_stem(self):
        folder = root / "stem"
        shutil.copytree(model, folder)
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def test_failure_leaves_nothing(self):
        folder = root / "half"
        done = run("new", folder, env={**os.environ, "PRETRAINED_CXX": "/nowhere", "PATH": "/nowhere",
                                       "PRETRAINED_CODE_CACHE": str(root / "cache")})
        self.assertNotEqual(done.returncode, 0)
        self.assertFalse(folder.exists())
        self.assertEqual([p.name for p in root.iterdir() if p.name.startswith(".")], [])

    def test_names(self):
        for name in ("n" * 83, "n" * 250, "1st", "a/b$"):
            done = run("new", root / name)
            self.assertEqual(done.returncode, 2, name)
            self.assertIn("the folder's name becomes the name of a class", done.stderr)
            self.assertFalse((root / name).exists() if len(name) < 200 else False)
        self.assertEqual(run("new", model).returncode, 2)

    def test_an_empty_folder_is_filled(self):
        folder = root / "here"
        folder.mkdir()
        inode = folder.stat().st_ino
        done = run("new", ".", "--json", cwd=folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["class"], "HereForImageClassification")
        self.assertEqual(folder.stat().st_ino, inode)
        self.assertTrue((folder / "model.safetensors").exists())


if __name__ == "__main__":
    unittest.main()
