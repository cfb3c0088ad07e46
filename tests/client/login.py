"""One session for `hf` and for us: what either stores, switches or removes the other sees; the device flow."""
import json, pathlib, re, subprocess, threading, unittest, urllib.parse

import client, harness


class Login(client.HubTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.token = cls.tokens["alice"]
        cls.hub.cli("user", "password", "alice", stdin="correct horse\n")
        cls.other = cls.hub.cli("token", "create", "alice", "--name", "other one")["token"]

    def setUp(self):
        self.env = self.hub.env()
        self.home = pathlib.Path(self.env["HF_HOME"])

    def hf(self, *words, expect=0):
        done = harness.run(harness.PYTHON, "-m", "huggingface_hub.cli.hf", "auth", *words, env=self.env, expect=expect)
        return done.stdout + done.stderr

    def tool(self, *words, expect=0, **env):
        return client.tool(*words, env=self.env | env, expect=expect)

    def python(self, code):
        return harness.run_python(f"import json\nfrom huggingface_hub.utils import _auth\nprint(json.dumps({code}))", self.env)

    def test_python_logs_in_and_we_see_it(self):
        self.hf("login", "--token", self.token)
        self.hf("login", "--token", self.other)
        self.assertEqual(self.tool("find_token"), [self.other, str(self.home / "token")])
        tokens = {t["name"]: t for t in self.tool("list_tokens")}
        self.assertTrue(tokens["other one"]["active"])
        self.assertEqual(self.tool("whoami")["token_name"], "other one")
        first = next(name for name, token in tokens.items() if token["token"] == self.token)
        self.tool("activate_token", first)
        self.assertRegex(self.hf("list"), rf"\*\s+{re.escape(first)}")
        self.hf("switch", "--token-name", "other one")
        self.assertEqual(self.tool("find_token")[0], self.other)
        before = (self.home / "stored_tokens").read_bytes()
        self.tool("login", f"token={self.other}")
        self.assertEqual((self.home / "stored_tokens").read_bytes(), before, "we write what Python writes")
        self.hf("logout", "--token-name", "other one")
        self.assertEqual([t["name"] for t in self.tool("list_tokens")], [first])
        self.assertEqual(self.tool("find_token")[0], "")

    def test_we_log_in_and_python_sees_it(self):
        result = self.tool("login", f"token={self.other}")
        self.assertEqual((result["user"], result["token_name"]), ("alice", "other one"))
        self.assertIn("alice", self.hf("whoami"))
        self.assertRegex(self.hf("list"), r"\*\s+other one")
        self.tool("login", f"token={self.token}")
        self.assertEqual(self.python("_auth.get_token()"), self.token)
        self.assertEqual(self.python("sorted(_auth.get_stored_tokens().values())"), sorted([self.token, self.other]))
        for name, mode in (("token", 0o600), ("stored_tokens", 0o600), (".", 0o700)):
            self.assertEqual((self.home / name).stat().st_mode & 0o777, mode, name)
        self.assertTrue(self.tool("remove_token", "other one"))
        self.assertEqual(self.python("list(_auth.get_stored_tokens().values())"), [self.token])
        self.hf("logout")
        self.assertEqual(self.tool("list_tokens"), [])
        self.assertFalse(self.tool("remove_token"))

    def test_a_bad_token_changes_nothing(self):
        self.tool("login", f"token={self.token}")
        error = self.tool("login", "token=hf_" + "x" * 34, expect=4)
        self.assertEqual(error["error"], "Unauthorized")
        self.assertNotIn("xxx", error["message"])
        self.assertEqual(self.tool("find_token")[0], self.token)

    def test_odd_names(self):
        for name in ("[a] = b", "# ; : é 한", "  spaces  ", "a%(b)s"):
            token = self.hub.cli("token", "create", "alice", "--name", name)["token"]
            stored = self.tool("login", f"token={token}")["token_name"]
            self.assertEqual(self.python("_auth.get_stored_tokens()").get(stored), token, name)
            self.hf("switch", "--token-name", stored)

    def start_device_login(self):
        process = subprocess.Popen([client.TOOL, "login"], env=self.env, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, preexec_fn=harness.die_with_parent)
        return process, json.loads(process.stdout.readline())

    def decide(self, code, decision, password="correct horse"):
        address = urllib.parse.urlsplit(code["complete"])
        page = self.hub.call("GET", f"{address.path}?{address.query}", raw=True)[2].decode()
        fields = {m[0]: m[1] for m in re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)}
        self.assertEqual(fields["user_code"], code["user_code"])
        fields |= {"name": "alice", "password": password, "decision": decision}
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.hub.url}
        body = urllib.parse.urlencode(fields).encode()
        return self.hub.call("POST", "/oauth/approve", body=body, headers=form, raw=True)[0]

    def test_device_flow(self):
        process, code = self.start_device_login()
        self.assertEqual(self.decide(code, "approve"), 200)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(json.loads(out)["user"], "alice")
        self.assertEqual(self.tool("whoami")["name"], "alice")
        self.assertIn("alice", self.hf("whoami"))
        token = self.tool("list_tokens")[0]
        self.assertTrue(token["refresh_token"] and token["expires_at"])
        # Near its end the token is renewed by whoever comes first, and both go on with the new one.
        stored = self.home / "stored_tokens"
        for renew in (lambda: self.tool("current_token"), lambda: self.python("_auth.get_token()")):
            old = self.tool("find_token")[0]
            stored.write_text(re.sub(r"expires_at = \d+", "expires_at = 1000", stored.read_text()))
            self.assertNotEqual(renew(), old)
            self.assertEqual(self.tool("current_token"), self.python("_auth.get_token()"))
            self.assertIn("alice", self.hf("whoami"))

    def test_many_processes_renew_once(self):
        process, code = self.start_device_login()
        self.assertEqual(self.decide(code, "approve"), 200)
        process.communicate(timeout=60)
        stored = self.home / "stored_tokens"
        stored.write_text(re.sub(r"expires_at = \d+", "expires_at = 1000", stored.read_text()))
        before = self.hub.log_text().count("/oauth/token")
        tokens = []
        threads = [threading.Thread(target=lambda: tokens.append(self.tool("current_token"))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(set(tokens)), 1, "one new token for all")
        self.assertEqual(self.tool("whoami")["name"], "alice")
        self.assertEqual(self.hub.log_text().count("/oauth/token") - before, 1)

    def test_declined(self):
        process, code = self.start_device_login()
        self.assertEqual(self.decide(code, "deny"), 200)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 4)
        self.assertIn("declined", json.loads(err)["message"])
        self.assertFalse((self.home / "token").exists())


unittest.main()
