"""Models run with `pretrained predict --isolate`: by folder and name, without trust; their process ends with its host's."""
import ctypes, json, os, pathlib, platform, shutil, signal, struct, subprocess, sys, tempfile, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "hub"))
import harness
import numpy
from safetensors.numpy import load_file, save_file

COMMAND = os.environ["PRETRAINED_COMMAND"]
MODEL = pathlib.Path(__file__).resolve().parents[1] / "models/hostile"


def without(call):
    """For Popen: a kernel that lacks this system call."""
    def load(code, value, yes=0, no=0):
        return struct.pack("HBBI", code, yes, no, value)

    code = load(0x20, 0) + load(0x15, call, 0, 1) + load(0x06, 0x00050000 | 38) + load(0x06, 0x7FFF0000)  # ENOSYS

    def install():
        libc, program = ctypes.CDLL(None), ctypes.create_string_buffer(code)
        libc.prctl(38, 1, 0, 0, 0)
        assert libc.prctl(22, 2, struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(program)), 0, 0) == 0

    return install


class Isolation(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="pretrained-isolation-"))
        self.addCleanup(shutil.rmtree, self.root, True)
        self.home, self.model = self.root / "home", self.root / "model"
        self.home.mkdir()
        (self.home / "canary").write_text("untouched")
        shutil.copytree(MODEL, self.model)
        save_file({"weight": numpy.array([2, 3], "float32")}, self.model / "model.safetensors")
        save_file({"x": numpy.ones(2, "float32")}, self.root / "x.safetensors")
        self.environment = {**os.environ, "HOME": str(self.home), "PRETRAINED_CODE_CACHE": "/tmp/pretrained-test-code"}

    def attack(self, what):
        config = json.loads((self.model / "config.json").read_text())
        config |= {"attack": what, "canary": str(self.home / "canary")}
        (self.model / "config.json").write_text(json.dumps(config))

    def command(self, model, *more):
        return [COMMAND, "predict", str(model), "--input", str(self.root / "x.safetensors"), "--output",
                str(self.root / "y.safetensors"), *more]

    def predict(self, model, *more, env=None, expect=0, **options):
        done = subprocess.run(self.command(model, *more), capture_output=True, text=True, env=env or self.environment, **options)
        self.assertEqual(done.returncode, expect, done)
        return done

    def test_without_trust_it_only_computes(self):
        self.attack("")
        done = self.predict(self.model, expect=4)
        self.assertIn("hostile.h", done.stderr)
        self.predict(self.model, "--isolate")
        outputs = load_file(self.root / "y.safetensors")
        self.assertEqual(outputs["output"].tolist(), [2, 3])
        tried = bytes(outputs["tried"].astype("uint8")).decode().split("|")
        self.assertEqual(tried, ["." * len(tried[0])] * 3)
        self.assertEqual((self.home / "canary").read_text(), "untouched")

    def test_a_kernel_without_a_guard_runs_nothing(self):
        self.predict(self.model, "--isolate")  # compiles
        (self.root / "y.safetensors").unlink()
        for guard, call in ("Landlock", 444), ("seccomp", 317 if platform.machine() == "x86_64" else 277):
            done = self.predict(self.model, "--isolate", "--quiet", expect=1, preexec_fn=without(call))
            self.assertRegex(done.stderr, f"isolation: this system cannot .*{guard}.*must not run here")
            self.assertFalse((self.root / "y.safetensors").exists())

    def test_a_crash_is_one_line(self):
        self.attack("crash")
        done = self.predict(self.model, "--isolate", "--quiet", expect=1)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn("Segmentation fault", done.stderr)
        self.assertFalse((self.root / "y.safetensors").exists())

    def test_its_process_ends_with_its_host(self):
        self.attack("hang")
        host = subprocess.Popen(self.command(self.model, "--isolate", "--quiet"), env=self.environment)
        self.addCleanup(host.wait)
        self.addCleanup(host.kill)

        def workers():
            found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout.splitlines()
            return [int(line.split()[0]) for line in found if line.split()[1].endswith("pretrained-worker")
                    and line.split()[-1] == str(host.pid)]

        for _ in range(1200):
            if workers():
                break
            time.sleep(0.1)
        (worker,) = workers()
        host.send_signal(signal.SIGKILL)
        for _ in range(300):
            if not pathlib.Path(f"/proc/{worker}").exists():
                break
            time.sleep(0.1)
        self.assertFalse(workers())

    def test_by_name(self):
        hub = harness.Hub()
        self.addCleanup(hub.close)
        env = {**hub.env(hub.user("alice")), "PRETRAINED_CODE_CACHE": "/tmp/pretrained-test-code"}
        self.attack("")
        harness.run_python(f"""
from huggingface_hub import HfApi
HfApi().create_repo("alice/hostile")
HfApi().upload_folder(folder_path={str(self.model)!r}, repo_id="alice/hostile")
print(1)
""", env)
        self.predict("alice/hostile", env=env, expect=4)
        self.predict("alice/hostile", "--isolate", env=env)
        self.assertEqual(load_file(self.root / "y.safetensors")["output"].tolist(), [2, 3])


if __name__ == "__main__":
    unittest.main()
