"""`pretrained trust`, and what `predict` asks at a terminal. Answers are typed by this test."""
import json, os, pathlib, pty, select, shutil, subprocess, tempfile, time, unittest

COMMAND = os.environ["PRETRAINED_COMMAND"]
scratch = tempfile.TemporaryDirectory()
root = pathlib.Path(scratch.name).resolve()
model = root / "my-model"
os.environ |= {"HOME": str(root), "PRETRAINED_TRUST_FILE": str(root / "trust.json")}


def run(*argv, **kwargs):
    return subprocess.run([COMMAND, *map(str, argv)], capture_output=True, text=True, stdin=subprocess.DEVNULL, **kwargs)


class Terminal:
    """A process at a terminal; `answer` is typed when it asks."""

    def __init__(self, *argv, answer=None, early=b""):
        master, slave = pty.openpty()
        os.write(master, early)
        process = subprocess.Popen([COMMAND, *map(str, argv)], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.output, asked = b"", False
        end = time.monotonic() + 600
        while time.monotonic() < end and (select.select([master], [], [], 1)[0] or process.poll() is None):
            try:
                self.output += os.read(master, 65536) if select.select([master], [], [], 0)[0] else b""
            except OSError:
                break
            if b"[y/N]" in self.output and not asked and answer is not None:
                asked = True
                os.write(master, answer)
        os.close(master)
        self.code = process.wait(60)
        self.output = self.output.decode()


def setUpModule():
    done = run("new", model)
    assert done.returncode == 0, done.stderr


class Trust(unittest.TestCase):
    def setUp(self):
        (root / "trust.json").unlink(missing_ok=True)

    def test_add_list_revoke(self):
        self.assertEqual(run("trust", "list").stdout, "")
        shown = run("trust", "show", model, "--json")
        review = json.loads(shown.stdout)
        self.assertEqual((review["repository"], review["commit"], review["diff"]), (str(model), "", ""))
        self.assertTrue(all(file["size"] > 0 for file in review["files"]))
        self.assertEqual(run("trust", "list").stdout, "", "looking is not trusting")
        done = run("trust", "add", model)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(review["sha256"], done.stderr)
        entry = json.loads(run("trust", "list", "--json").stdout)
        self.assertEqual((entry["repository"], entry["sha256"], entry["how"]), (str(model), review["sha256"], "command"))
        self.assertEqual(run("predict", model, model / "test.png").returncode, 0, "no flag is needed")
        self.assertIn(str(model), run("trust", "revoke", model).stdout)
        self.assertEqual(run("trust", "revoke", model).returncode, 3)
        self.assertEqual(run("predict", model, model / "test.png").returncode, 4)

    def test_errors(self):
        self.assertEqual(run("trust").returncode, 2)
        self.assertEqual(run("trust", "add", root / "nothing").returncode, 3)
        (root / "trust.json").write_text("{")
        for words in (["list"], ["add", model], ["revoke", model]):
            done = run("trust", *words)
            self.assertEqual((done.returncode, done.stderr.count("pretrained: ")), (5, 1), done.stderr)
        self.assertEqual((root / "trust.json").read_text(), "{")

    def test_no_terminal_no_question(self):
        for stdin in (subprocess.DEVNULL, subprocess.PIPE):
            done = subprocess.run([COMMAND, "predict", model, model / "test.png"], capture_output=True, text=True, timeout=120,
                                  **({"input": "y\n"} if stdin == subprocess.PIPE else {"stdin": stdin}))
            self.assertEqual(done.returncode, 4)
            self.assertNotIn("[y/N]", done.stderr)

    def test_a_terminal_is_asked(self):
        words = "predict", model, model / "test.png"
        for answer in (b"n\n", b"\n", b"yess\n", b"\x04"):  # the last is the end of the input
            terminal = Terminal(*words, answer=answer)
            self.assertEqual(terminal.code, 4, terminal.output)
            self.assertIn("modeling_my_model.h", terminal.output)
            self.assertIn("sha256", terminal.output)
        terminal = Terminal(*words, answer=b"y\n")
        self.assertEqual(terminal.code, 0, terminal.output)
        terminal = Terminal(*words)
        self.assertEqual(terminal.code, 0, terminal.output)
        self.assertNotIn("[y/N]", terminal.output, "these bytes are trusted")

    def test_what_was_typed_before_is_no_answer(self):
        terminal = Terminal("predict", model, model / "test.png", early=b"y\ny\n", answer=b"n\n")
        self.assertEqual(terminal.code, 4, terminal.output)

    def test_changed_code_is_shown_even_with_the_flag(self):
        changed = root / "changed"
        shutil.copytree(model, changed, dirs_exist_ok=True)
        words = "predict", changed, changed / "test.png", "--trust-remote-code"
        self.assertEqual(run(*words).returncode, 0)
        header = changed / "modeling_my_model.h"
        header.write_text(header.read_text() + "// one line more\n")
        done = run(*words)
        self.assertEqual(done.returncode, 4)
        self.assertIn("+// one line more\n", done.stderr)
        terminal = Terminal(*words, answer=b"n\n")
        self.assertEqual(terminal.code, 4)
        self.assertIn("+// one line more", terminal.output)
        self.assertEqual(Terminal(*words, answer=b"y\n").code, 0)
        self.assertEqual(run(*words).returncode, 0)

    def test_lock_and_verify(self):
        locked = root / "locked"
        shutil.copytree(model, locked, dirs_exist_ok=True)
        self.assertEqual(run("verify", locked).returncode, 3, "no lock yet")
        done = run("lock", locked)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(run("verify", locked).returncode, 0)
        weights = locked / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        done = run("verify", locked, "--json")
        self.assertEqual(done.returncode, 5)
        self.assertIn("model.safetensors", json.loads(done.stdout)["problems"][0])
        (locked / "pretrained.lock").write_text('{"files": {}}')
        self.assertEqual(run("verify", locked).returncode, 5)


if __name__ == "__main__":
    unittest.main()
