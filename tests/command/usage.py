"""What `pretrained` says before any verb runs: usage, help, completion. Needs no LibTorch, no hub."""
import os, pathlib, shutil, subprocess, tempfile, unittest

COMMAND = os.environ["PRETRAINED_COMMAND"]
scratch = tempfile.TemporaryDirectory()
root = pathlib.Path(scratch.name)


def run(*argv, **kwargs):
    return subprocess.run([COMMAND, *map(str, argv)], capture_output=True, text=True, **kwargs)


class Usage(unittest.TestCase):
    def assert_usage(self, argv, *texts):
        done = run(*argv)
        self.assertEqual(done.returncode, 2)
        for text in texts:
            self.assertIn(text, done.stderr)

    def test_wording(self):
        self.assert_usage(["bogus"], "no subcommand 'bogus' (pretrained --help lists them)")
        self.assert_usage(["predct"], "no subcommand 'predct'; did you mean 'predict'?")
        self.assert_usage(["predict"], "(pretrained predict --help shows what there is)")
        self.assert_usage(["predict", "m", "x.png", "--josn"], "no option '--josn'; did you mean '--json'?", "pretrained predict --help")
        self.assert_usage([], "pretrained --help")
        self.assert_usage(["auth", "lgin"], "no subcommand 'lgin'; did you mean 'login'? (pretrained auth --help lists them)")
        self.assert_usage(["login"], "no subcommand 'login'; did you mean 'auth login'? (pretrained --help lists them)")
        self.assert_usage(["repo", "move-it"], "no subcommand 'move-it' (pretrained repo --help lists them)")
        self.assert_usage(["repo", "branch"], "(pretrained repo branch --help shows what there is)")
        self.assert_usage(["repo", "tag", "create"], "REPO is required (pretrained repo tag create --help")
        self.assert_usage(["download", "org/name", "--inclde", "x"], "did you mean '--include'?")
        self.assert_usage(["repo", "settings", "org/name", "--private", "--public"], "--private excludes --public")

    def test_every_verb_explains_itself(self):
        verbs = [["auth", verb] for verb in ("login", "whoami", "list", "switch", "logout")]
        verbs += [["repo", verb] for verb in ("create", "list", "info", "delete", "move", "settings")]
        verbs += [["repo", kind, verb] for kind in ("branch", "tag") for verb in ("create", "delete", "list")]
        verbs += [["cache", verb] for verb in ("ls", "rm", "verify")] + [["upload"], ["download"], ["commits"]]
        for verb in verbs:
            done = run(*verb, "--help")
            self.assertEqual(done.returncode, 0, verb)
            for text in ("Example", "--json", "--quiet"):
                self.assertIn(text, done.stdout, verb)


class Completion(unittest.TestCase):
    def complete(self, *words):
        script = ('source <("$PRETRAINED_COMMAND" completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pretrained; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script, "bash", "pretrained", *words], capture_output=True, text=True, cwd=root)
        self.assertEqual(done.stderr, "")
        return done.stdout.splitlines()

    def test_bash(self):
        self.assertEqual(self.complete("pre"), ["predict"])
        self.assertIn("--version", self.complete("--"))
        options = self.complete("predict", "m", "--")
        self.assertIn("--trust-remote-code", options)
        self.assertEqual(len(options), len(set(options)))
        self.assertEqual(self.complete("predict", "m", "--dtype", "b"), ["bfloat16"])
        self.assertEqual(self.complete("predict", "m", "--device", "cu"), ["cuda"])
        self.assertEqual(self.complete("completion", "z"), ["zsh"])
        self.assertEqual(self.complete("auth", "l"), ["login", "list", "logout"])
        self.assertEqual(self.complete("repo", "branch", ""), ["create", "delete", "list"])
        self.assertEqual(self.complete("repo", "settings", "org/name", "--gated", "m"), ["manual"])
        self.assertIn("--local-dir", self.complete("download", "org/name", "--"))
        (root / "two words").mkdir(exist_ok=True)
        self.assertEqual(self.complete("inspect", "two"), ["two words"])

    def test_every_shell_reads_its_script(self):
        for shell in ("bash", "zsh", "fish"):
            done = run("completion", shell)
            self.assertEqual(done.returncode, 0)
            self.assertIn("bfloat16", done.stdout)
            if shutil.which(shell):
                checked = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True, text=True)
                self.assertEqual((checked.returncode, checked.stderr), (0, ""))
        self.assertEqual(run("completion", "tcsh").returncode, 2)


class Start(unittest.TestCase):
    def test_help_loads_no_library(self):
        for verb in ("predict", "inspect", "new"):
            done = run(verb, "--help", env={**os.environ, "LD_DEBUG": "libs"})
            self.assertEqual(done.returncode, 0)
            self.assertNotIn("libpretrained_verbs", done.stderr)
            self.assertIn("Example", done.stdout)

    def test_without_libtorch(self):
        done = run("inspect", root / "nothing")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (3, 1))
        built = (pathlib.Path(COMMAND).parent.parent / "lib/libpretrained_verbs.so").exists()
        self.assertIn("no such folder" if built else "needs LibTorch", done.stderr)


if __name__ == "__main__":
    unittest.main()
