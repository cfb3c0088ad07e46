"""Models run with `pretrained predict --isolate`: by folder and name, without trust; their process ends with its host's."""
import ctypes, json, os, pathlib, platform, shutil, signal, struct, subprocess, sys, tempfile, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "hub"))
import harness
import numpy
from _models import PYTHON, Models
from _report import record
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


# What the hostile model calls it, and the same in Python.
OPERATIONS = {"open canary": "open({path!r}).read()", "create": "open({path!r} + '.new', 'w')", "list": "__import__('os').listdir('/')",
              "socket": "__import__('socket').socket().bind(('127.0.0.1', 0))", "kill": "__import__('os').kill(__import__('os').getppid(), 0)",
              "execve": "__import__('subprocess').run(['true'], check=True)", "parent's maps": "open('/proc/%d/maps' % __import__('os').getppid())",
              "outlive the parent": "__import__('os').setsid()"}


class WhatCodeDoes(Models):
    def test_s21_once_it_runs(self):
        model = self.root / "model"
        shutil.copytree(MODEL, model)
        save_file({"weight": numpy.array([2, 3], "float32")}, model / "model.safetensors")
        path = self.root / "a file of the home"
        path.write_text("untouched")
        config = json.loads((model / "config.json").read_text()) | {"canary": str(path), "model_type": "evil"}
        (model / "config.json").write_text(json.dumps(config | {"model_type": "hostile"}))
        done = self.run_command("predict", model, "--isolate", "--input", self.home / "x.safetensors", "--output",
                                self.root / "y.safetensors", "--auto-class", "AutoModel")
        self.assertEqual(done.returncode, 0, done.stderr)
        tried = bytes(load_file(self.root / "y.safetensors")["tried"].astype("uint8")).decode()
        config["auto_map"] = {"AutoConfig": "configuration_evil.EvilConfig"}
        (model / "config.json").write_text(json.dumps(config))
        for name, python in OPERATIONS.items():
            (model / "configuration_evil.py").write_text(python.format(path=str(path)) + "\n" + PYTHON.format(canary=self.canary))
            record("S21", name, "executed" if "." + name in tried else "refused (EPERM)", self.transformers(model))
            self.assertNotIn("." + name, tried)
        self.assertFalse(set(tried) - set(".|"), tried)


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
        state = os.environ.get("XDG_STATE_HOME", os.path.expanduser("~/.local/state"))  # as for the other tests that share the cache
        self.environment = {**os.environ, "HOME": str(self.home), "XDG_STATE_HOME": state,
                            "PRETRAINED_CODE_CACHE": "/tmp/pretrained-test-code"}

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
            record("S21", f"a kernel without {guard}", "refused (failed)")
            self.assertRegex(done.stderr, f"isolation: this system cannot .*{guard}.*must not run here")
            self.assertFalse((self.root / "y.safetensors").exists())

    def test_a_crash_is_one_line(self):
        self.attack("crash")
        done = self.predict(self.model, "--isolate", "--quiet", expect=1)
        record("S21", "a crash", "refused (failed)")
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
        env = hub.env(hub.user("alice")) | {name: self.environment[name] for name in ("XDG_STATE_HOME", "PRETRAINED_CODE_CACHE")}
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
