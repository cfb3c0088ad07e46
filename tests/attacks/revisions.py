"""Attacks through the hub: revisions that move or only look like commits, caches that somebody wrote to, repositories of others."""
import json, shutil, unittest

import numpy
from _hub import OnHub
from safetensors.numpy import save


class Revisions(OnHub):
    def test_s8_code_of_others_needs_a_commit(self):
        code = f"{self.repo}-code"
        self.hub.call("POST", "/api/repos/create", self.mallory, {"type": "model", "name": code.split("/")[1]})
        commit = self.commit(self.files(), repo=code)
        for name in ("", "@main", f"@{commit[:8]}", f"@{commit.upper()}"):
            theirs = {"AutoConfig": f"{code}--configuration_evil.EvilConfig"}
            self.commit(self.files(auto_map_cpp={"AutoModel": f"{code}{name}--modeling_evil.EvilModel"}, auto_map=theirs))
            answer = self.transformers(self.repo, revision=self.head()) if not name else None
            self.refused("S8", f"code of '{name}'", self.predict(self.repo), 5, answer)
        # A commit that is named stays what it was, whatever happens to that repository.
        self.commit(self.files(auto_map_cpp={"AutoModel": f"{code}@{commit}--modeling_evil.EvilModel"}))
        before = json.loads(self.show(self.repo).stdout)
        self.commit(self.evil(), repo=code)
        shutil.rmtree(self.home_cache)
        self.assertEqual(json.loads(self.show(self.repo).stdout), before)

    def test_s9_main_moves_between_any_two_requests(self):
        good = self.files() | {"part.h": "// one\n"}
        good["modeling_evil.h"] = '#include "part.h"\n' + good["modeling_evil.h"]
        evil = good | {"part.h": "// two two\n", "modeling_evil.h": good["modeling_evil.h"] + "// two two\n"}
        self.commit(good)
        sums = set()
        for version in (evil, good):  # what each is, undisturbed
            shutil.rmtree(self.home_cache, ignore_errors=True)
            sums.add(json.loads(self.show(self.repo).stdout)["sha256"])
            self.commit(version)
        self.proxy.count = 0
        shutil.rmtree(self.home_cache)
        self.show(self.repo)
        requests = self.proxy.count
        self.assertGreater(requests, 2)
        for k in range(2, requests + 1):
            self.commit(good)
            shutil.rmtree(self.home_cache)
            self.proxy.count, self.proxy.before = 0, {k: lambda: self.commit(evil)}
            self.assertIn(json.loads(self.show(self.repo).stdout)["sha256"], sums, f"a mixture, moved before request {k}")
            self.proxy.before = {}

    def test_s10_what_only_looks_like_a_commit(self):
        good = self.commit(self.files())
        evil = self.commit(self.evil())
        # A branch with the name of another commit, or of the start of one: as far as the hub lets it be made.
        for name in (good, good[:10], "f" * 40):
            self.hub.call("POST", f"/api/models/{self.repo}/branch/{name}", self.mallory, {"startingPoint": evil})
        self.assertEqual(json.loads(self.show(f"{self.repo}@{good}").stdout)["commit"], good)
        self.refused("S10", "no such commit", self.show(f"{self.repo}@{'e' * 40}", expect=3), 3)

        def lie(path, status, headers, body):  # a hub that answers for another commit than was asked for
            headers = {k: v.replace(good, evil) for k, v in headers.items()}
            return status, headers, body if path.endswith(".h") else body.replace(good.encode(), evil.encode())

        self.proxy.change = lie
        shutil.rmtree(self.home_cache)
        done = self.show(f"{self.repo}@{good}", expect=None)
        self.refused("S10", "another commit than was asked for", done, 5)

    def test_s11_a_hub_that_sends_other_bytes(self):
        commit = self.commit(self.files())

        def flip(path, status, headers, body):
            return status, headers, body.replace(b'"ran"', b'"raN"') if "/resolve/" in path else body

        self.proxy.change = flip
        theirs = self.transformers(self.repo, revision=commit)
        self.refused("S11", "one bit, the same length", self.predict(f"{self.repo}@{commit}"), 5, theirs)
        self.proxy.change = lambda path, status, headers, body: (status, headers, body[:-9] if path.endswith(".h") else body)
        shutil.rmtree(self.home_cache)
        done = self.predict(f"{self.repo}@{commit}")
        self.refused("S11", "cut off", done, 6 if done.returncode == 6 else 5)

    def poison(self):
        """Every code file of the cache, in place."""
        for file in self.home_cache.rglob("snapshots/*/*"):
            if file.suffix in (".h", ".py"):
                file.resolve().write_text(self.other_bytes(file.read_text()))

    def test_s12_the_cache_is_written_to(self):
        commit = self.commit(self.files())
        self.run_command("trust", "show", f"{self.repo}@{commit}", expect=0)
        self.transformers(self.repo, revision=commit), self.ran("python")
        self.poison()
        self.refused("S12", "before the code was trusted", self.predict(f"{self.repo}@{commit}"), 5,
                     self.transformers(self.repo, revision=commit))
        shutil.rmtree(self.home_cache)
        self.run_command("trust", "add", f"{self.repo}@{commit}", expect=0)
        self.poison()
        self.refused("S12", "after it was trusted", self.predict(f"{self.repo}@{commit}"), 5)
        # S25: offline nothing is believed that online is not.
        offline = {"HF_HUB_OFFLINE": 1}
        self.refused("S25", "a cache that was written to, offline", self.predict(f"{self.repo}@{commit}", **offline), 5)
        self.assertIn("hash to", self.run_command("verify", f"{self.repo}@{commit}", expect=5).stderr)

    def test_s22_main_moves_after_it_was_trusted(self):
        self.commit(self.files())
        self.run_command("trust", "add", self.repo, expect=0)
        self.commit({"README.md": "the same code under another commit"})
        self.assertIn("trusted_before", json.loads(self.show(self.repo).stdout))
        self.assertEqual(json.loads(self.show(self.repo).stdout)["diff"], "")
        self.assertEqual(self.transformers(self.repo), "executed")
        evil = self.commit(self.evil())
        done = self.predict(self.repo)
        self.assertIn(f"pretrained trust add {self.repo}@{evil}", done.stderr)
        self.refused("S22", "main moved", done, 4, self.transformers(self.repo))
        self.run_command("trust", "revoke", self.repo, expect=0)
        self.refused("S22", "revoked", self.predict(self.repo, trust=False), 4)

    def test_the_lock_holds_every_file(self):
        commit = self.commit(self.files())
        lock = self.root / "model.lock"
        self.run_command("lock", self.repo, "-o", lock, expect=0)
        self.run_command("verify", f"{self.repo}@{commit}", "--lock", lock, expect=0)
        self.commit(self.evil())
        done = self.run_command("verify", self.repo, "--lock", lock, expect=5)
        self.assertIn("modeling_evil.h", done.stderr)

    def test_s25_a_lock_is_heeded(self):
        weights = {"model.safetensors": save({"a.weight": numpy.ones((2, 2), "float32"), "a.bias": numpy.zeros(2, "float32")})}
        commit = self.commit(self.files() | weights)
        lock = self.root / "model.lock"
        self.run_command("lock", self.repo, "-o", lock, expect=0)
        evil = self.commit(self.evil())
        # A name without a revision is the locked commit, whatever the branch is now; offline too.
        for offline in {}, {"HF_HUB_OFFLINE": 1}:
            done = self.predict(self.repo, lock=lock, **offline)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(self.ran("cpp"))
        self.refused("S25", "another commit than the locked one", self.predict(f"{self.repo}@{evil}", lock=lock), 5)
        self.refused("S25", "a lock of another repository", self.predict(f"{self.repo}-x", lock=lock), 5)
        for name in "config.json", "modeling_evil.h", "model.safetensors":
            changed = json.loads(lock.read_text())
            changed["files"][name]["sha256"] = "0" * 64
            other = self.root / "other.lock"
            other.write_text(json.dumps(changed))
            done = self.predict(f"{self.repo}@{commit}", lock=other)
            self.assertIn(name, done.stderr)
            if name == "model.safetensors":  # the code is the locked one, and may run
                self.assertEqual(done.returncode, 5, done.stderr)
                self.ran("cpp")
            else:
                self.refused("S25", f"{name} is not the locked one", done, 5)


if __name__ == "__main__":
    unittest.main()
