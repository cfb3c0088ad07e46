"""A model whose code leaves a canary when it runs, in C++ for us and in Python for Transformers, and both run on it. Ours runs
under strace: where an attack is refused no program was started, and the canary's name was never opened."""
import json, os, pathlib, re, shutil, subprocess, sys, tempfile, unittest
import numpy
from _report import record
from safetensors.numpy import save_file

ERRORS = {1: "failed", 2: "usage", 3: "not found", 4: "not permitted", 5: "bad data", 6: "network"}
COMMAND = os.environ["PRETRAINED_COMMAND"]
CPP = """#pragma once
#include <fstream>
#include <pretrained/model.h>
#include <torch/nn/modules/linear.h>
inline const bool canary = (std::ofstream("{canary}-cpp") << "ran", true);
struct EvilConfig : pretrained::PretrainedConfig<EvilConfig> {{
  static constexpr auto model_type = "evil";
  PRETRAINED_FIELDS()
}};
struct EvilModel : pretrained::PreTrainedModel<EvilModel, EvilConfig> {{
  static constexpr std::array inputs{{"x"}};
  torch::nn::Linear a;
  explicit EvilModel(const Config& config) : PreTrainedModel(config), a(register_module("a", torch::nn::Linear(2, 2))) {{}}
  torch::Tensor forward(torch::Tensor x) {{ return a(x); }}
}};
"""
PYTHON = """from transformers import PretrainedConfig
open("{canary}-python", "w").write("ran")
class EvilConfig(PretrainedConfig):
    model_type = "evil"
"""
# Imported once; each request in a process of its own, so that no module of one is seen by the next.
WORKER = """
import json, os, sys
import transformers
from transformers import AutoConfig; transformers.logging.set_verbosity_error()
for module in os.environ.get("PRELOAD", "").split():
    __import__(module)
for line in sys.stdin:
    read, write = os.pipe()
    if not os.fork():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1); os.dup2(1, 2)
        try:
            request = json.loads(line)
            getattr(transformers, request.pop("auto")).from_pretrained(request.pop("model"), **request)
            answer = "loaded"
        except BaseException as error:
            answer = "refused (%s)" % type(error).__name__
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    print(os.read(read, 1000).decode() or "crashed", flush=True)
    os.close(read); os.wait()
"""


class Models(unittest.TestCase):
    environment = {}

    @classmethod
    def setUpClass(cls):
        cls.home = pathlib.Path(tempfile.mkdtemp(prefix="pretrained-attack-"))
        cls.addClassCleanup(shutil.rmtree, cls.home, True)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_", "PRETRAINED_TRUST"))}
        code_cache = os.environ.get("PRETRAINED_CODE_CACHE", os.path.join(tempfile.gettempdir(), "pretrained-test-code"))
        # Where the cache's secret lies: as for all other tests, which share that cache.
        state = os.environ.get("XDG_STATE_HOME", os.path.expanduser("~/.local/state"))
        cls.env = clean | {"HOME": str(cls.home), "XDG_STATE_HOME": state, "HF_HOME": str(cls.home / "hf"), "NO_PROXY": "*", "PRETRAINED_CODE_CACHE": code_cache,
                           "HF_HUB_DISABLE_TELEMETRY": "1", **cls.environment}
        cls.worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, text=True, env=cls.env)
        cls.addClassCleanup(cls.worker.communicate)
        save_file({"x": numpy.ones((1, 2), "float32")}, cls.home / "x.safetensors")

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(dir=self.home))
        self.canary = self.root / "canary"

    def files(self, **config):
        """The model's files by name; config.json changed by `config`."""
        whole = {"model_type": "evil", "auto_map": {"AutoConfig": "configuration_evil.EvilConfig"},
                 "auto_map_cpp": {"AutoConfig": "modeling_evil.EvilConfig", "AutoModel": "modeling_evil.EvilModel"}} | config
        return {"config.json": json.dumps(whole), "modeling_evil.h": CPP.format(canary=self.canary),
                "configuration_evil.py": PYTHON.format(canary=self.canary)}

    def write(self, name="model", without_code=False, **config):
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        for path, text in self.files(**config).items():
            if path == "config.json" or not without_code:
                (folder / path).write_text(text)
        save_file({"a.weight": numpy.ones((2, 2), "float32"), "a.bias": numpy.zeros(2, "float32")}, folder / "model.safetensors")
        return folder

    def run_command(self, *words, expect=None, **env):
        trace = self.root / "trace"
        strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", trace, "-e", "trace=execve,connect,openat,?open,?openat2,?creat"]
        done = subprocess.run([*strace, COMMAND, *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              env=self.env | {k: str(v) for k, v in env.items()}, timeout=900)
        done.trace = trace.read_text(errors="replace")
        if expect is not None:
            self.assertEqual(done.returncode, expect, done.stderr)
        self.assertNotIn("\x1b", done.stderr + done.stdout)
        return done

    def predict(self, model, trust=True, lock=None, **options):
        return self.run_command("predict", model, "--input", self.home / "x.safetensors", "--output", self.root / "y.safetensors",
                                "--auto-class", "AutoModel", *["--trust-remote-code"] * trust, *(["--lock", lock] if lock else []), **options)

    def ran(self, language):
        canary = pathlib.Path(f"{self.canary}-{language}")
        found = canary.exists()
        canary.unlink(missing_ok=True)
        return found

    @staticmethod
    def other_bytes(text):
        """As long, and runs as well."""
        return text.replace('"ran"', '"raN"')

    def transformers(self, model, trust_remote_code=True, auto="AutoConfig", **options):
        request = {"model": str(model), "auto": auto, "trust_remote_code": trust_remote_code} | options
        self.worker.stdin.write(json.dumps(request) + "\n")
        self.worker.stdin.flush()
        answer = self.worker.stdout.readline().strip()
        return "executed" if self.ran("python") else answer

    def refused(self, attack, case, done, expect, theirs=None):
        """Not one instruction ran, and one line says why."""
        ran = self.ran("cpp")
        error = ERRORS.get(done.returncode)
        record(attack, case, "executed" if ran else f"refused ({error})" if error else f"exit {done.returncode}", theirs)
        self.assertFalse(ran, f"{attack} {case}")
        self.assertNotIn(str(self.canary), done.trace, f"{attack} {case}")
        self.assertEqual(re.findall(r"execve\(", done.trace), ["execve("], f"{attack} {case}: a program was started")
        self.assertEqual(done.returncode, expect, f"{attack} {case}: {done.stderr}")
        self.assertRegex(done.stderr.splitlines()[-1], "^pretrained: ")
