"""What the attacks share: a victim's home with a secret in it, a repository's folder, and the program that loads it."""
import os, pathlib, re, shutil, subprocess, tempfile, unittest
from _report import record

TOOL = os.environ.get("PRETRAINED_CODE_TOOL", "build/release/bin/code_tool")
SECRET = "canary-5d1c7c0f"
GUARDS = ["bubblewrap", "landlock"]


class Attack(unittest.TestCase):
    attack = None  # its class; None for what only shows that the honest way works
    theirs = None

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="pretrained-attack-"))
        self.addCleanup(shutil.rmtree, self.root, True)
        self.home, self.repo, self.cache = self.root / "home", self.root / "repo", self.root / "cache"
        for folder in self.home, self.repo, self.cache:
            folder.mkdir(mode=0o700)
        (self.home / "secret").write_text(SECRET)
        self.ran = self.root / "ran"  # an attack's code makes this file
        self.kinds = set()  # of errors so far
        self.addCleanup(self.record)

    def record(self):
        if self.attack:
            case = self._testMethodName.removeprefix("test_").replace("_", " ")
            refused = f"refused ({', '.join(sorted(self.kinds))})" if self.kinds else "without effect"
            record(self.attack, case, "executed" if self.ran.exists() else refused, self.theirs)

    def put(self, **files):
        """put(model_h="…") writes model.h"""
        for name, text in files.items():
            (self.repo / name.replace("_", ".")).write_bytes(text if isinstance(text, bytes) else text.encode())

    def load(self, guard="automatic", seconds=60, memory=4000, **options):
        """(kind, message, log) of one load in a process of its own; nothing of the secret gets out."""
        environment = {**os.environ, "HOME": str(self.home), "HF_TOKEN": SECRET, "LD_LIBRARY_PATH": str(self.root)}
        done = subprocess.run([TOOL, "load", self.repo, self.cache, guard, str(seconds), str(memory)], capture_output=True,
                              env=environment, timeout=seconds * 3 + 60, **options)
        self.assertIn(done.returncode, (0, 1), done)
        self.assertNotIn(SECRET.encode(), done.stdout + done.stderr)
        for file in self.cache.rglob("*"):
            self.assertTrue(not file.is_file() or SECRET.encode() not in file.read_bytes(), file)
        self.assertEqual((self.home / "secret").read_text(), SECRET)
        self.assertEqual([*(self.cache / ".pretrained-scratch").glob("*")], [], "the private folder is gone")
        first, _, log = done.stdout.decode().partition("\n--\n")
        kind, _, message = first.rstrip("\n").partition(" ")
        self.kinds |= {kind} - {"ok"}
        self.assertNotIn("\n", message)
        self.assertEqual(re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", message + log), [])
        return kind, message, log

    def refused(self, kind, pattern, **options):
        found = self.load(**options)
        self.assertEqual(found[0], kind, found)
        self.assertRegex(found[1], pattern)
        self.assertFalse([*self.cache.glob("*.so")], "nothing was kept")
        return found

    def loads(self, value, **options):
        found = self.load(**options)
        self.assertEqual(found[:2], ("ok", str(value)), found)
