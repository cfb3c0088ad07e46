"""The hub's verbs of `pretrained` against a real hub, as people and scripts meet them."""
import fcntl, json, os, pathlib, pty, random, re, signal, struct, subprocess, tempfile, termios, time, unittest, urllib.parse

import client, harness
from slow_proxy import SlowProxy

COMMAND = os.environ["PRETRAINED_COMMAND"]
BIG = random.Random(7).randbytes(6_000_000)


def setUpModule():
    global hub, alice, bob
    hub = harness.Hub()
    unittest.addModuleCleanup(hub.close)
    alice, bob = hub.user("alice"), hub.user("bob")


def pretrained(*words, env, expect=0, **options):
    done = harness.run(COMMAND, *words, env=env, expect=expect, **options)
    if expect:
        test.assertRegex(done.stderr, r"\A(retrying in [^\n]+\n)*pretrained: [^\n]+\n\Z")
        test.assertEqual(done.stdout, "")
    return done


def answer(*words, **options):
    """The documents of --json."""
    return [json.loads(line) for line in pretrained(*words, "--json", **options).stdout.splitlines()]


test = unittest.TestCase()


class Screen:
    """What a person sees in the end: the controls that a progress display uses, and no others."""

    def __init__(self, columns):
        self.columns, self.rows, self.row, self.column = columns, [""], 0, 0

    def feed(self, text):
        for control, plain in re.findall(r"(\x1b\[\d*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", text):
            if plain:
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[:self.column] + plain + line[self.column + len(plain):]
                self.column += len(plain)
                assert self.column < self.columns, f"wider than {self.columns}: {plain!r}"
            elif control == "\r":
                self.column = 0
            elif control == "\n":
                self.row += 1
                self.rows += [""] * (self.row + 1 - len(self.rows))
            elif control[-1] == "A":
                self.row -= int(control[2:-1] or 1)
            elif control[-1] in "KJ":
                self.rows[self.row] = self.rows[self.row][:self.column]
                if control[-1] == "J":
                    del self.rows[self.row + 1:]
            else:
                assert control[-1] == "m", repr(control)

    def text(self):
        return "\n".join(self.rows).rstrip()


def on_terminal(*words, env, columns=100, act=None, keys=None):
    """Exit code and all that was written to a terminal. act(text, process) sees what came so far."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in env.items() if k != "HF_HUB_DISABLE_PROGRESS_BARS"} | {"TERM": "xterm"}
    process = subprocess.Popen([COMMAND, *map(str, words)], stdin=slave, stdout=slave, stderr=slave, env=env,
                               start_new_session=True)
    os.close(slave)
    text = b""
    try:
        while part := os.read(master, 65536):
            text += part
            if keys and b"[y/N] " in text:  # what is typed before the question is no answer
                os.write(master, keys.encode())
                keys = None
            if act:
                act(text.decode(errors="replace"), process)
    except OSError:  # Linux: the other side is closed
        pass
    os.close(master)
    return process.wait(60), text.decode()


def folder_of(files):
    folder = pathlib.Path(tempfile.mkdtemp(dir=hub.folder))
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


class Accounts(unittest.TestCase):
    def test_a_token_from_stdin(self):
        env = hub.env()
        for words in (["auth", "login"], ["auth", "login", "--token", "-"]):
            self.assertIn("logged in as alice", pretrained(*words, env=env, stdin=alice + "\n").stdout)
        token_file = pathlib.Path(env["HF_HOME"]) / "token"
        self.assertEqual(token_file.read_text().strip(), alice)
        self.assertEqual(token_file.stat().st_mode & 0o777, 0o600)
        who = answer("auth", "whoami", env=env)[0]
        self.assertEqual((who["user"], who["endpoint"], who["token_from"]), ("alice", hub.url, str(token_file)))
        self.assertIn("user: alice\n", pretrained("auth", "whoami", env=env).stdout)
        self.assertIn("user=alice", harness.run(harness.PYTHON, "-m", "huggingface_hub.cli.hf", "auth", "whoami", env=env).stdout.replace(": ", "="))
        self.assertNotIn(alice, pretrained("auth", "list", "--json", env=env).stdout)

    def test_several_tokens(self):
        env = hub.env()
        work = hub.cli("token", "create", "bob", "--name", "work")["token"]
        first = answer("auth", "login", "--token", alice, env=env)[0]["token_name"]
        second = answer("auth", "login", "--token", work, env=env)[0]["token_name"]
        self.assertEqual({token["name"]: token["active"] for token in answer("auth", "list", env=env)},
                         {first: False, second: True})
        pretrained("auth", "switch", first, env=env)
        self.assertEqual(answer("auth", "whoami", env=env)[0]["user"], "alice")
        pretrained("auth", "switch", "nobody", env=env, expect=3)
        pretrained("auth", "logout", second, env=env)
        pretrained("auth", "logout", second, env=env, expect=3)
        pretrained("auth", "logout", env=env)
        self.assertEqual(answer("auth", "list", env=env), [])
        pretrained("auth", "whoami", env=env, expect=4)

    def test_the_environment_wins(self):
        done = pretrained("auth", "login", "--token", alice, env=hub.env(bob))
        self.assertIn("HF_TOKEN is set in the environment and wins", done.stderr)

    def test_what_is_refused(self):
        env = hub.env()
        self.assertNotIn("hf_wrong", pretrained("auth", "login", "--token", "hf_wrong", env=env, expect=4).stderr)
        pretrained("auth", "login", env=env, expect=2, stdin="\n")
        self.assertFalse((pathlib.Path(env["HF_HOME"]) / "token").exists())

    def test_in_a_browser(self):
        hub.cli("user", "password", "bob", stdin="correct horse\n")
        env, approved = hub.env(), []

        def approve(text, _):
            code = re.search(r"\b([A-Z0-9]{4}-[A-Z0-9]{4})\b", text)
            address = re.search(re.escape(hub.url) + r"/\S+", text)
            if approved or not code or not address:
                return
            approved.append(code)
            page = hub.call("GET", urllib.parse.urlsplit(address.group(0)).path, raw=True)[2].decode()
            fields = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page))
            fields |= {"user_code": code.group(1), "name": "bob", "password": "correct horse", "decision": "approve"}
            action = re.search(r'<form[^>]*action="([^"]+)"', page).group(1)
            status, _, body = hub.call("POST", action, body=urllib.parse.urlencode(fields).encode(), raw=True, headers={
                "Content-Type": "application/x-www-form-urlencoded", "Origin": hub.url})
            self.assertEqual(status, 200, body)

        code, text = on_terminal("auth", "login", env=env, act=approve)
        self.assertEqual(code, 0, text)
        self.assertIn("logged in as bob", text)
        self.assertEqual(answer("auth", "whoami", env=env)[0]["user"], "bob")


    def test_a_stored_token_stays_with_its_hub(self):
        env = hub.env()
        pretrained("auth", "login", env=env, stdin=alice + "\n")
        self.assertIn(f"  for {hub.url}\n", pretrained("auth", "list", env=env).stdout)
        proxy = SlowProxy(hub.port, 1e9)
        self.addCleanup(proxy.close)
        elsewhere = env | {"HF_ENDPOINT": proxy.url}
        said = pretrained("auth", "whoami", env=elsewhere, expect=4).stderr
        self.assertIn(f"for {hub.url} and is not sent to {proxy.url}", said)
        self.assertEqual(proxy.sent, 0)
        self.assertEqual(answer("auth", "whoami", env=elsewhere | {"HF_TOKEN": alice})[0]["user"], "alice")
        pretrained("auth", "login", env=elsewhere, stdin=alice + "\n")
        self.assertEqual(answer("auth", "whoami", env=elsewhere)[0]["user"], "alice")

    def test_a_device_login_without_a_terminal(self):
        env = hub.env()
        hub.cli("user", "create", "dora")
        hub.cli("user", "password", "dora", stdin="correct horse\n")
        process = subprocess.Popen([COMMAND, "auth", "login"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        harness.approve_login(hub, process.stderr, "dora", "correct horse")
        self.assertIn("logged in as dora", process.communicate(timeout=60)[0])
        listed = answer("auth", "list", env=env)[0]
        self.assertEqual((listed["endpoint"], listed["renewed"], listed["expires_at"] > time.time()), (hub.url, True, True))
        self.assertRegex(pretrained("auth", "list", env=env).stdout, r"  expires 20\d\d-\d\d-\d\d \d\d:\d\d, is renewed before\n")
        pretrained("auth", "login", "--token", "-", env=env, stdin="", expect=2)


class Repositories(unittest.TestCase):
    def setUp(self):
        self.env = hub.env(alice)

    def test_list_and_info(self):
        for name, more in (("listed-a", ["--private"]), ("listed-b", [])):
            pretrained("repo", "create", name, *more, env=self.env)
        oid = answer("upload", "listed-b", folder_of({"README.md": "---\nlicense: mit\n---\n# b\n", "m.bin": BIG}), env=self.env)[0]["oid"]
        listed = {r["id"]: r["private"] for r in answer("repo", "list", "--limit", "1000", env=self.env)}
        self.assertEqual((listed["alice/listed-a"], listed["alice/listed-b"]), (True, False))
        theirs = answer("repo", "list", "alice", "--search", "listed-", env=hub.env(bob))
        self.assertEqual([r["id"] for r in theirs], ["alice/listed-b"])
        self.assertIn("alice/listed-a  private  20", pretrained("repo", "list", env=self.env).stdout)
        info = answer("repo", "info", "listed-b", env=self.env)[0]
        self.assertEqual((info["commit"], info["private"]), (oid, False))
        self.assertEqual({f["path"]: f["size"] for f in info["files"]}["m.bin"], len(BIG))
        text = pretrained("repo", "info", "alice/listed-b@main", env=hub.env(bob)).stdout
        for part in ("model: alice/listed-b\n", f"commit: {oid}\n", "access: public\n", "license:mit", "  m.bin  6.0 MB\n"):
            self.assertIn(part, text)
        pretrained("repo", "info", "alice/listed-a", env=hub.env(bob), expect=3)

    def test_nothing_is_made_for_files_that_are_refused(self):
        for files, code in (({"a.py": "x = 'hf_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6'\n"}, 4),
                            ({"README.md": "---\nlicense: [\n---\n"}, 5)):
            pretrained("upload", "never", folder_of(files), env=self.env, expect=code)
            pretrained("repo", "info", "never", env=self.env, expect=3)

    def test_private_is_not_published(self):
        pretrained("upload", "open", folder_of({"a.txt": "a"}), env=self.env)
        said = pretrained("upload", "open", folder_of({"b.txt": "b"}), "--private", env=self.env, expect=1).stderr
        self.assertIn("alice/open exists and is public, not private: `pretrained repo settings alice/open --private`", said)
        self.assertEqual(hub.call("GET", "/api/models/alice/open/tree/main", alice)[2][-1]["path"], "a.txt")
        pretrained("repo", "settings", "open", "--private", env=self.env)
        pretrained("upload", "open", folder_of({"b.txt": "b"}), "--private", env=self.env)
        pretrained("upload", "closed", folder_of({"b.txt": "b"}), "--private", env=self.env)
        self.assertTrue(hub.call("GET", "/api/models/alice/closed", alice)[2]["private"])

    def test_names_that_are_nearly_right(self):
        oid = answer("upload", "nearly", folder_of({"a.txt": "a"}), env=self.env)[0]["oid"]
        self.assertIn("did you mean 'alice/nearly'?", pretrained("download", "nearly", env=self.env, expect=2).stderr)
        self.assertNotIn("did you mean", pretrained("download", "nothing", env=self.env, expect=2).stderr)
        said = pretrained("download", "alice/nearly@" + oid[:9], env=self.env, expect=3).stderr
        self.assertRegex(said, rf"a commit is named by all 40 digits of its id: did you mean {oid}\? \(status 404, request [^ ]+\)\n\Z")
        self.assertRegex(pretrained("download", "alice/nearlz", env=self.env, expect=3).stderr,
                         r"did you mean 'alice/nearly'\? \(status 404, request [^ ]+\)\n\Z")

    def test_create_and_delete(self):
        made = answer("repo", "create", "made", "--private", env=self.env)[0]
        self.assertEqual((made["id"], made["url"]), ("alice/made", hub.url + "/alice/made"))
        self.assertTrue(hub.call("GET", "/api/models/alice/made", alice)[2]["private"])
        pretrained("repo", "create", "made", env=self.env, expect=1)
        pretrained("repo", "create", "alice/made", "--exist-ok", env=self.env)
        pretrained("repo", "create", "alice/made", "--repo-type", "dataset", env=self.env)
        self.assertIn("--yes", pretrained("repo", "delete", "made", env=self.env, expect=2, stdin="y\n").stderr)
        code, text = on_terminal("repo", "delete", "made", env=self.env, keys="n\n")
        self.assertEqual((code, "nothing was changed" in text), (1, True))
        code, text = on_terminal("repo", "delete", "made", env=self.env, keys="y\n")
        self.assertEqual((code, "deleted alice/made" in text), (0, True), text)
        pretrained("repo", "delete", "made", "--yes", env=self.env, expect=3)
        pretrained("repo", "delete", "made", "--yes", "--missing-ok", env=self.env)
        pretrained("repo", "delete", "made", "--repo-type", "dataset", "--yes", "--quiet", env=self.env)

    def test_move_and_settings(self):
        pretrained("repo", "create", "before", env=self.env)
        pretrained("repo", "move", "before", "after", env=self.env)
        pretrained("repo", "settings", "alice/after", "--private", env=hub.env(bob), expect=4)
        pretrained("repo", "settings", "after", "--private", "--gated", "manual", env=self.env)
        pretrained("repo", "settings", "alice/after", "--public", env=hub.env(bob), expect=3)  # not to be seen
        said = hub.call("GET", "/api/models/alice/after", alice)[2]
        self.assertEqual((said["private"], said["gated"]), (True, "manual"))
        self.assertEqual(answer("repo", "settings", "after", "--public", "--gated", "false", env=self.env)[0],
                         {"id": "alice/after", "type": "model", "private": False, "gated": "false"})
        pretrained("repo", "settings", "after", env=self.env, expect=2)

    def test_branches_tags_and_commits(self):
        pretrained("upload", "history", folder_of({"a.txt": "1"}), "--message", "First", env=self.env)
        pretrained("repo", "branch", "create", "history", "dev", env=self.env)
        pretrained("repo", "branch", "create", "history", "dev", env=self.env, expect=1)
        pretrained("repo", "branch", "create", "history", "dev", "--exist-ok", env=self.env)
        pretrained("upload", "history", folder_of({"a.txt": "2"}), "--message", "Second", "--revision", "dev", env=self.env)
        pretrained("repo", "tag", "create", "history", "v1", "--revision", "dev", "-m", "A release", env=self.env)
        branches = {ref["name"]: ref["target"] for ref in answer("repo", "branch", "list", "history", env=self.env)}
        self.assertEqual(set(branches), {"main", "dev"})
        self.assertIn("  v1\n", pretrained("repo", "tag", "list", "history", env=self.env).stdout)
        commits = answer("commits", "alice/history@v1", env=self.env)
        self.assertEqual((commits[0]["title"], commits[0]["id"]), ("Second", branches["dev"]))
        self.assertEqual(len(answer("commits", "alice/history@v1", "--limit", "1", env=self.env)), 1)
        self.assertRegex(pretrained("commits", "alice/history", env=self.env).stdout.splitlines()[0],
                         r"^[0-9a-f]{40}  \d{4}-\d\d-\d\dT\S+  alice\b.*  First$")
        pretrained("repo", "tag", "delete", "history", "v1", env=self.env, expect=2)
        pretrained("repo", "tag", "delete", "history", "v1", "--yes", env=self.env)
        pretrained("repo", "branch", "delete", "history", "dev", "--yes", env=self.env)
        pretrained("commits", "alice/history@dev", env=self.env, expect=3)
        pretrained("commits", "history", env=self.env, expect=2)
        pretrained("commits", "alice/history@v1", "--revision", "main", env=self.env, expect=2)


class Files(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = hub.env(alice)
        cls.folder = folder_of({"config.json": "{}", "weights.bin": BIG, "sub/a.txt": "a", "sub/b.txt": "b"})
        cls.first = answer("upload", "files", cls.folder, env=cls.env)[0]

    def read(self, path):
        return {str(p.relative_to(path)): p.read_bytes() for p in sorted(pathlib.Path(path).rglob("*"))
                if p.is_file() and ".cache" not in p.parts}

    def test_a_folder_there_and_back(self):
        env = hub.env(alice)
        path = pathlib.Path(pretrained("download", "alice/files", env=env).stdout.strip())
        self.assertEqual(path.name, self.first["oid"])
        read = self.read(path)
        self.assertIn(b"filter=lfs", read.pop(".gitattributes"))  # of the hub
        self.assertEqual(read, self.read(self.folder))
        again = answer("download", "alice/files@main", env=env)[0]
        self.assertEqual((again["path"], again["commit"], again["bytes_downloaded"]), (str(path), path.name, 0))
        self.assertEqual(again["files"], sorted([".gitattributes", *self.read(self.folder)]))
        one = pretrained("download", "alice/files", "sub/a.txt", env=env).stdout.strip()
        self.assertEqual(one, str(path / "sub/a.txt"))
        offline = env | {"HF_HUB_OFFLINE": "1"}
        self.assertEqual(pretrained("download", "alice/files", env=offline).stdout.strip(), str(path))
        pretrained("download", "alice/other", env=offline, expect=6)
        down = pretrained("download", "alice/files", env=env | {"HF_ENDPOINT": "http://127.0.0.1:1"}, expect=6)
        self.assertIn(f"3 times; the cache knows commit {path.name}, which HF_HUB_OFFLINE=1 uses", down.stderr)

    def test_some_files(self):
        target = pathlib.Path(tempfile.mkdtemp(dir=hub.folder))
        for words, names in ((["sub/"], ["sub/a.txt", "sub/b.txt"]), (["config.json", "sub/a.txt"], ["config.json", "sub/a.txt"]),
                             (["--include", "*.txt", "--exclude", "*b.txt"], ["sub/a.txt"])):
            path = target / str(len(names)) / words[0].strip("-/")
            done = pretrained("download", "alice/files", *words, "--local-dir", path, env=self.env)
            self.assertEqual(done.stdout.strip(), str(path))
            self.assertEqual(sorted(self.read(path)), names)
            self.assertFalse(any(p.is_symlink() for p in path.rglob("*.txt")))

    def test_what_is_not_there(self):
        env = hub.env(alice)
        self.assertIn("config.json", pretrained("download", "alice/files", "confg.json", env=env, expect=3).stderr)
        pretrained("download", "alice/files", "config.json", "nothing.txt", env=env, expect=3)
        pretrained("download", "alice/files", "nothing/", "sub/", env=env, expect=3)
        pretrained("download", "alice/files@nothing", env=env, expect=3)
        pretrained("download", "alice/nothing", env=env, expect=3)
        pretrained("download", "../x", env=env, expect=2)
        pretrained("upload", "alice/files", "/nothing", env=env, expect=3)
        pretrained("download", "alice/files", env=env | {"HF_ENDPOINT": "http://127.0.0.1:1"}, expect=6, timeout=120)

    def test_upload_says_what_it_did(self):
        done = pretrained("upload", "alice/files", self.folder, env=self.env)
        self.assertIn("nothing to upload", done.stderr)
        single = folder_of({"one.txt": "one"})
        said = answer("upload", "files", single / "one.txt", "deep/one.txt", "--revision", "side", env=self.env)[0]
        self.assertEqual((said["commits"], said["files_uploaded"]), (1, 1))
        self.assertEqual(said["commit_url"], f"{hub.url}/alice/files/commit/{said['oid']}")
        pretrained("upload", "files", single / "one.txt", "below/", "--revision", "below", env=self.env)
        self.assertEqual(hub.call("GET", "/alice/files/resolve/below/below/one.txt", alice, raw=True)[2], b"one")
        request = answer("upload", "files", single, "--create-pr", "--message", "Please", env=self.env)[0]
        self.assertIn("/alice/files/discussions/", request["pr_url"])
        pretrained("upload", "files", single, "--revision", "side", "--parent-commit", self.first["oid"], env=self.env, expect=1)
        said = answer("upload", "files", single, "--revision", "side", "--delete", "*.txt", "--exclude", "x*", env=self.env)[0]
        names = {entry["path"] for entry in hub.call("GET", "/api/models/alice/files/tree/side?recursive=true", alice)[2]}
        self.assertEqual(names & {"one.txt", "deep/one.txt", "sub/a.txt", "config.json"}, {"one.txt", "config.json"})

    def test_what_is_refused(self):
        secret = folder_of({"settings.py": "token = 'hf_" + "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zAbC" + "'\n"})
        refused = pretrained("upload", "secrets", secret, "--quiet", env=self.env, expect=4).stderr
        self.assertIn("--allow-secrets", refused)
        self.assertIn("settings.py", refused)
        self.assertNotIn("aB3dE5gH7jK9", refused)
        pretrained("upload", "secrets", secret, "--allow-secrets", env=self.env)
        pretrained("upload", "alice/files", secret, "--allow-secrets", env=hub.env(bob), expect=4)
        pretrained("upload", "alice/files", self.folder, env=hub.env(), expect=4)
        card = folder_of({"README.md": "---\nlicense: [\n---\n"})
        pretrained("upload", "alice/files", card, env=self.env, expect=5)

    def test_gated(self):
        pretrained("upload", "gated", folder_of({"a.txt": "a"}), env=self.env)
        pretrained("repo", "settings", "gated", "--gated", "manual", env=self.env)
        pretrained("download", "alice/gated", env=hub.env(bob), expect=4)

    def test_the_cache(self):
        env = hub.env(alice)
        path = pathlib.Path(pretrained("download", "alice/files", env=env).stdout.strip())
        listed = answer("cache", "ls", env=env)[0]
        self.assertEqual((listed["id"], listed["revisions"][0]["commit"], listed["revisions"][0]["refs"]),
                         ("alice/files", path.name, ["main"]))
        self.assertIn("model alice/files  6.0 MB\n", pretrained("cache", "ls", env=env).stdout)
        self.assertEqual(pretrained("cache", "verify", env=env).stdout, "model alice/files  ok\n")
        blob = (path / "weights.bin").resolve()
        blob.chmod(0o600)
        blob.write_bytes(b"x" + BIG[1:])
        broken = harness.run(COMMAND, "cache", "verify", "alice/files", env=env, expect=5)
        self.assertIn("weights.bin" if "weights.bin" in broken.stderr else blob.name, broken.stderr)
        pretrained("cache", "rm", "alice/files", env=env, expect=2)
        pretrained("cache", "rm", "alice/nothing", "--yes", env=env, expect=3)
        pretrained("cache", "rm", "alice/files@nothing", "--yes", env=env, expect=3)
        self.assertGreater(answer("cache", "rm", "alice/files@main", "--yes", env=env)[0]["freed"], 6_000_000)
        self.assertEqual(answer("cache", "ls", env=env), [])
        pretrained("cache", "ls", "--cache-dir", "/nothing", env=env)

    def test_offline_and_a_cache_that_cannot_be_written(self):
        env = hub.env(alice)
        path = pretrained("download", "alice/files", env=env).stdout
        nowhere = env | {"HF_ENDPOINT": "http://127.0.0.1:1"}
        self.assertEqual(pretrained("download", "alice/files", "--offline", env=nowhere).stdout, path)
        self.assertIn("as its blobs are named", pretrained("verify", "alice/files", "--offline", env=nowhere).stdout)
        pretrained("lock", "alice/files", "--offline", "-o", pathlib.Path(env["HOME"]) / "x.lock", env=nowhere)
        said = pretrained("download", "alice/files", env=nowhere, expect=6).stderr
        self.assertRegex(said, r"\Aretrying in 1 s \(1 of 2\): http://127\.0\.0\.1:1/[^\n]+\nretrying in 2 s \(2 of 2\): ")
        self.assertEqual(len(pretrained("download", "alice/files", "-q", env=nowhere, expect=6).stderr.splitlines()), 1)
        file = pathlib.Path(env["HOME"]) / "a-file"
        file.write_text("x")
        said = pretrained("download", "alice/files", env=env | {"HF_HUB_CACHE": file / "hub"}, expect=1).stderr
        self.assertIn(f"the cache {file}/hub cannot be written: Not a directory; HF_HUB_CACHE names another one", said)

    def test_a_tag_goes_alone(self):
        env = hub.env(alice)
        pretrained("repo", "tag", "create", "files", "twin", env=env)
        path = pathlib.Path(pretrained("download", "alice/files", env=env).stdout.strip())
        pretrained("download", "alice/files@twin", env=env)
        self.assertEqual(answer("cache", "rm", "alice/files@twin", "--yes", env=env)[0]["freed"], 0)
        self.assertTrue(path.is_dir())
        pretrained("cache", "rm", "alice/files@twin", "--yes", env=env, expect=3)

    def test_one_interrupt_ends_a_wait(self):
        env = hub.env(alice)
        path = pathlib.Path(pretrained("download", "alice/files", env=env).stdout.strip())
        held = [open(lock, "w") for lock in (path.parents[2] / ".locks").rglob("*.lock")]
        for lock in held:
            self.addCleanup(lock.close)
            fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen([COMMAND, "download", "alice/files", "--force"], env=env, stderr=subprocess.PIPE, text=True)
        self.assertIn("another process is downloading it", process.stderr.readline())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20), 130)
        self.assertEqual(process.stderr.read().splitlines()[-1], "pretrained: interrupted; run the same command to go on")


class Slow(unittest.TestCase):
    """Transfers that last long enough to be looked at."""

    def setUp(self):
        self.env = hub.env(alice)
        self.folder = folder_of({"first.bin": BIG[::-1], "second.bin": BIG[1:], "small.txt": "s"})
        name = f"slow-{self._testMethodName.replace('_', '-')}"
        self.repo = answer("upload", name, self.folder, env=self.env)[0]["id"]
        self.proxy = SlowProxy(hub.port, 1_500_000)
        self.addCleanup(self.proxy.close)
        self.slow = hub.env(alice) | {"HF_ENDPOINT": self.proxy.url}
        self.slow.pop("HF_HUB_DISABLE_PROGRESS_BARS")
        self.before = 0
        self.before = self.stored()

    def test_on_a_terminal(self):
        for columns in (100, 40):
            env = self.slow | {"HF_HUB_CACHE": tempfile.mkdtemp(dir=hub.folder)}
            code, text = on_terminal("download", self.repo, env=env, columns=columns)
            self.assertEqual(code, 0, text)
            path = re.split(r"\x1b\[[KJ]", text)[-1]
            display = text.removesuffix(path)
            screen = Screen(columns)
            screen.feed(display)
            self.assertEqual(screen.text(), "")  # it is gone before the path
            self.assertTrue(pathlib.Path(path.strip()).is_dir())
            if columns == 100:
                for part in ("downloading [", "first.bin", "second.bin", "MB/s", " left", "/4 files", "/ 12.0 MB"):
                    self.assertIn(part, display)
                self.assertIn("\x1b[36m", display)
        code, text = on_terminal("download", self.repo, "--force", env=self.slow | {"NO_COLOR": "1"})
        self.assertNotIn("\x1b[36m", text)
        self.assertIn("downloading [", text)

    def test_without_a_display(self):
        slower = SlowProxy(hub.port, 700_000)
        self.addCleanup(slower.close)
        done = pretrained("download", self.repo, env=self.slow | {"HF_ENDPOINT": slower.url})
        self.assertRegex(done.stderr, r"\A(downloading: [\d.]+ .?B of 12\.0 MB, \d of 4 files(, [\d.]+ .?B/s)?\n)+\Z")
        for words, change in ((["--quiet"], {}), ([], {"HF_HUB_DISABLE_PROGRESS_BARS": "1"})):
            done = pretrained("download", self.repo, "--force", *words, env=self.slow | change)
            self.assertEqual(done.stderr, "")

    def interrupt(self, *words, env, when):
        sent = []

        def act(text, process):
            if not sent and when(text):
                sent.append(process.send_signal(signal.SIGINT))

        code, text = on_terminal(*words, env=env, act=act)
        self.assertEqual(code, 130, text)
        screen = Screen(100)
        screen.feed(text.rsplit("pretrained:", 1)[0])
        self.assertNotIn("[", screen.text())
        self.assertTrue(text.endswith("pretrained: interrupted; run the same command to go on\r\n"), text[-200:])

    def test_ctrl_c_and_again(self):
        self.interrupt("download", self.repo, env=self.slow, when=lambda text: re.search(r"[5-9]\.\d MB / 12", text))
        before = self.proxy.received
        path = pathlib.Path(pretrained("download", self.repo, env=self.slow).stdout.strip())
        self.assertEqual((path / "first.bin").read_bytes(), BIG[::-1])
        self.assertEqual((path / "second.bin").read_bytes(), BIG[1:])
        self.assertLess(self.proxy.received - before, 10_000_000)  # the rest only

    def test_ctrl_c_in_an_upload(self):
        size = 600_000_000
        folder = folder_of({"model.safetensors": b"".join(random.Random(i).randbytes(size // 10) for i in range(10))})
        env = hub.env(alice)
        answer("repo", "create", "stopped", env=env)
        process = subprocess.Popen([COMMAND, "upload", "stopped", folder], env=env, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        while self.stored() < 120_000_000 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (130, ""))
        self.assertEqual(error, "pretrained: interrupted; run the same command to go on\n")
        stored = self.stored()
        done = answer("upload", "stopped", folder, env=env)[0]
        self.assertEqual((done["commits"], done["files_uploaded"]), (1, 1))
        self.assertLess(done["bytes_uploaded"], size - stored + 70_000_000)

    def stored(self):
        """Bytes of xorbs that the hub has taken since the test began."""
        lines = [json.loads(line) for line in hub.log_text().splitlines() if "/v1/xorbs/" in line]
        return sum(line["bytes_in"] for line in lines if line["status"] == 200 and line["complete"]) - self.before

    def test_ctrl_c_twice(self):
        process = subprocess.Popen([COMMAND, "download", self.repo], env=self.slow, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        self.assertIn(process.wait(10), (130, -signal.SIGINT))


if __name__ == "__main__":
    unittest.main()
