"""Attacks by hubs and neighbours: answers without end, names that look like others, tokens asked for, secrets and updates lost,
files swapped while they are loaded, branches that move between config, code and weights."""
import gzip, http.server, json, multiprocessing, pathlib, shutil, sys, tempfile, threading, unittest

import numpy
from _hub import OnHub, harness
from _report import record
from safetensors.numpy import load_file, save

TWO_FILES = """from transformers import PretrainedConfig
from .part import B
open("{canary}-versions", "w").write("{version}" + B)
class EvilConfig(PretrainedConfig):
    model_type = "evil"
"""


class Hubs(OnHub):
    # Branches that move while a model is loaded (S9)

    def version(self, number):
        """Config, code and weights that tell in each output which commit they are of."""
        files = self.files() | {"part.py": f'B = "{number}"\n',
                                "configuration_evil.py": TWO_FILES.format(canary=self.canary, version=number)}
        if number == 2:
            files["modeling_evil.h"] = files["modeling_evil.h"].replace("return a(x);", "return a(x) * 10;")
        weights = {"a.weight": numpy.full((2, 2), number, "float32"), "a.bias": numpy.zeros(2, "float32")}
        return files | {"model.safetensors": save(weights)}

    def load_without_auto_class(self):
        shutil.rmtree(self.home_cache, ignore_errors=True)
        trust = pathlib.Path(tempfile.mkdtemp(dir=self.root))  # in which nothing is trusted yet
        self.run_command("predict", self.repo, "--input", self.home / "x.safetensors", "--output", self.root / "y.safetensors",
                         "--trust-remote-code", expect=0, PRETRAINED_TRUST_FILE=trust / "trust.json")
        self.ran("cpp")
        return load_file(self.root / "y.safetensors")["output"][0, 0]

    def test_s9_main_moves_between_config_code_and_weights(self):
        self.commit(self.version(1))
        outputs = {self.load_without_auto_class()}
        self.commit(self.version(2))
        self.proxy.count = 0
        outputs.add(self.load_without_auto_class())
        self.assertEqual(outputs, {2, 40})
        requests, ours, theirs = self.proxy.count, set(), set()
        for k in range(2, requests + 1):
            self.commit(self.version(1))
            self.proxy.count, self.proxy.before = 0, {k: lambda: self.commit(self.version(2))}
            ours.add(self.load_without_auto_class())
        versions = pathlib.Path(f"{self.canary}-versions")
        for k in range(2, 12):
            self.commit(self.version(1))
            shutil.rmtree(self.home_cache, ignore_errors=True)
            self.proxy.count, self.proxy.before = 0, {k: lambda: self.commit(self.version(2))}
            self.transformers(self.repo)
            theirs.add(versions.read_text() if versions.exists() else "")
        record("S9", f"main moved before each of {requests} requests", "one commit" if ours <= outputs else "mixed",
               "mixed" if theirs & {"12", "21"} else "one commit")
        self.assertLessEqual(ours, outputs, "a mixture of commits")

    def test_s9_a_branch_is_replaced(self):
        first = self.commit(self.version(1))
        other = self.commit(self.version(2))
        for revision in (first, other):
            self.assertEqual(self.hub.call("POST", f"/api/models/{self.repo}/branch/b{revision[:4]}", self.mallory,
                                           {"startingPoint": revision})[0], 200)
        name = f"b{first[:4]}"

        def replace():
            self.hub.call("DELETE", f"/api/models/{self.repo}/branch/{name}", self.mallory)
            self.hub.call("POST", f"/api/models/{self.repo}/branch/{name}", self.mallory, {"startingPoint": other})

        self.proxy.before = {"/resolve/": replace}
        self.repo, repo = f"{self.repo}@{name}", self.repo
        output = self.load_without_auto_class()
        self.repo = repo
        record("S9", "a branch replaced before the first file is fetched", "one commit" if output == 2 else "mixed")
        self.assertEqual(output, 2)

    # Answers without end (S15)

    def test_s15_answers_that_grow(self):
        def encoded(body):
            return {"Content-Encoding": "gzip"}, gzip.compress(body + b"\n" * (64 << 20))

        def longer(body):
            return {}, body + b"\n// and more" * 100000

        self.commit(self.files())
        for case, grow in {"an encoding nobody asked for": encoded, "more bytes than announced": longer}.items():
            def change(path, status, headers, body):
                if "/resolve/" not in path or status != 200 or not path.endswith((".h", ".py")):
                    return status, headers, body
                more, body = grow(body)
                return status, headers | more, body

            self.proxy.change = change
            shutil.rmtree(self.home_cache, ignore_errors=True)
            theirs = self.transformers(self.repo, revision=self.head())
            shutil.rmtree(self.home_cache, ignore_errors=True)
            done = self.predict(f"{self.repo}@{self.head()}")
            self.refused("S15", case, done, 6 if done.returncode == 6 else 5, theirs)

    # Names that look like others (S18)

    def test_s18_names(self):
        self.commit(self.files())
        self.run_command("trust", "add", self.repo, expect=0)
        look_alike = self.repo.replace("a", "\u0430", 1)
        self.refused("S18", "a letter of another alphabet", self.predict(look_alike), 3, self.transformers(look_alike))
        self.hub.call("POST", "/api/repos/create", self.mallory, {"type": "model", "name": f"{self.repo.split('/')[1]}-1"})
        self.commit(self.files(), repo=f"{self.repo}-1")
        self.refused("S18", "the name of a trusted one, and a digit", self.predict(f"{self.repo}-1", trust=False), 4,
                     self.transformers(f"{self.repo}-1", trust_remote_code=None))

    def test_s18_a_name_that_somebody_took_over(self):
        self.commit(self.files())
        self.run_command("trust", "add", self.repo, expect=0)
        name = self.repo.split("/")[1]
        self.assertEqual(self.hub.call("DELETE", "/api/repos/delete", self.mallory, {"type": "model", "name": name})[0], 200)
        self.assertEqual(self.hub.call("POST", "/api/repos/create", self.mallory, {"type": "model", "name": name})[0], 200)
        self.commit(self.evil())
        shutil.rmtree(self.home_cache, ignore_errors=True)
        self.refused("S18", "a name that was deleted and taken over", self.predict(self.repo), 4, self.transformers(self.repo))

    # What is published (S23)

    def to_publish(self, name):
        folder = self.write(name)
        (folder / "model.safetensors").unlink()  # Xet's uploads do not pass the proxy
        return folder

    def published(self, folder):
        """By Python's client."""
        done = harness.run(sys.executable, "-c", f"""
from huggingface_hub import HfApi
HfApi().upload_folder(folder_path={str(folder)!r}, repo_id={self.repo!r})
""", env=self.env | {"HF_TOKEN": self.mallory}, expect=None)
        return "published" if done.returncode == 0 else "refused"

    def test_s23_secrets(self):
        secrets = {"a token in code": ("modeling_evil.h", "// hf_" + "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zAbC\n"),
                   "a private key in the model card": ("README.md", "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n" + "b3BlbnNzaC1rZXktdjEAAAAA" * 9)}
        for case, (name, text) in secrets.items():
            folder = self.to_publish(case.replace(" ", "-"))
            (folder / name).write_text(text)
            head = self.head()
            done = self.run_command("upload", self.repo, folder, HF_TOKEN=self.mallory)
            self.assertEqual(self.head(), head)
            self.refused("S23", case, done, 4, self.published(folder))

    def test_s23_a_lost_update(self):
        folder = self.to_publish("mine")
        self.commit(self.files() | {"config.json": "{}"})
        theirs_before = json.dumps({"somebody": "else's"})
        meanwhile = {"/commit/": lambda: self.commit({"config.json": theirs_before})}

        def kept():
            status, _, text = self.hub.call("GET", f"/{self.repo}/resolve/main/config.json", self.mallory, raw=True)
            return text.decode() == theirs_before

        self.proxy.before = dict(meanwhile)
        done = self.run_command("upload", self.repo, folder, HF_TOKEN=self.mallory)
        self.assertTrue(kept(), done.stderr)
        self.commit({"config.json": "{}"})
        self.proxy.before = dict(meanwhile)
        answer = self.published(folder)
        theirs = "overwritten" if answer == "published" and not kept() else answer
        self.refused("S23", "somebody else's commit meanwhile", done, done.returncode, theirs)
        self.assertIn(done.returncode, (1, 5, 6))

    # Tokens for strangers (S24)

    def test_s24_redirects_to_a_stranger(self):
        seen = []

        class Stranger(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append(str(self.headers))
                self.send_error(404)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        stranger = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
        self.addCleanup(stranger.shutdown)
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        self.commit(self.files())
        for case, address in {"an absolute address": "http://127.0.0.1:{}/x", "an address without a scheme": "//localhost:{}/x"}.items():
            def change(path, status, headers, body):
                if "/resolve/" not in path or not path.endswith((".h", ".py")):
                    return status, headers, body
                return 302, {"Location": address.format(stranger.server_port)}, b""

            self.proxy.change = change
            answers = []
            for load in (lambda: self.predict(f"{self.repo}@{self.head()}", HF_TOKEN=self.mallory),
                         lambda: self.transformers(self.repo, revision=self.head(), token=self.mallory)):
                shutil.rmtree(self.home_cache, ignore_errors=True)
                seen.clear()
                load()
                answers.append("token sent" if self.mallory in "".join(seen) else f"no token in {len(seen)} requests")
            record("S24", f"redirected: {case}", *answers)
            self.assertNotEqual(answers[0], "token sent")

    # Files that are swapped while they are loaded (S13)

    @staticmethod
    def swap(files, stop):
        while not stop.is_set():
            for path, texts in files.items():
                for text in texts:
                    with open(path, "r+") as file:
                        file.write(text)

    def won(self, pattern, load, count):
        """How often the swapped bytes ran, of `count` loads."""
        files = {path: (path.read_text(), self.other_bytes(path.read_text())) for path in self.home_cache.rglob(pattern) if path.is_file()}
        self.assertTrue(files)
        stop, wins = multiprocessing.Event(), 0
        process = multiprocessing.Process(target=self.swap, args=(files, stop), daemon=True)
        process.start()
        try:
            for _ in range(count):
                load()
                for language in ("cpp", "python"):
                    canary = pathlib.Path(f"{self.canary}-{language}")
                    wins += canary.exists() and canary.read_text() == "raN"
                    canary.unlink(missing_ok=True)
        finally:
            stop.set()
            process.join(30)
        return f"won {wins} of {count}"

    def test_s13_the_cache_is_swapped_while_it_is_loaded(self):
        commit = self.commit(self.files() | {"model.safetensors": self.version(1)["model.safetensors"]})
        self.run_command("trust", "add", f"{self.repo}@{commit}", expect=0)
        request = json.dumps({"model": self.repo, "auto": "AutoConfig", "trust_remote_code": True, "revision": commit}) + "\n"

        def python():
            self.worker.stdin.write(request)
            self.worker.stdin.flush()
            self.worker.stdout.readline()

        python()  # fills the cache of modules
        codes = set()
        ours = self.won("snapshots/*/modeling_evil.h", lambda: codes.add(self.predict(f"{self.repo}@{commit}", trust=False).returncode), 20)
        theirs = self.won("modules/transformers_modules/**/configuration_evil.py", python, 20)
        record("S13", "sources in the hub's cache", ours, theirs)
        self.assertEqual(ours, "won 0 of 20")
        self.assertLessEqual(codes, {0, 4, 5})


if __name__ == "__main__":
    unittest.main()
