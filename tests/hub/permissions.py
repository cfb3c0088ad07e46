"""Who may do what: every kind of caller against every kind of route of a public, a private and a gated repository."""
import base64, json, pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness

LFS = {"Content-Type": "application/vnd.git-lfs+json", "Accept": "application/vnd.git-lfs+json"}
COMMIT = "\n".join(json.dumps(x) for x in [
    {"key": "header", "value": {"summary": "c"}},
    {"key": "file", "value": {"path": "by-%s.txt", "encoding": "base64", "content": base64.b64encode(b"x").decode()}}])

# The least role each action needs; "see" is any caller to whom the repository exists.
ACTIONS = {
    "see": ["info", "list"],
    "read": ["discussions", "tree", "paths-info", "refs", "commits", "resolve", "raw", "xet-read", "git-fetch", "lfs-download", "compare"],
    "pull-request": ["pr-open", "discuss"],
    "write": ["commit", "preupload", "branch", "tag", "xet-write", "git-push", "lfs-upload", "squash", "pr-merge", "access-requests"],
    "admin": ["settings", "move", "delete"],
}
# caller → what it may do with a public, a private, a gated repository of the organisation
MAY = {
    "anonymous":    {"public": "read", "private": None, "gated": "see"},
    "stranger":     {"public": "pull-request", "private": None, "gated": "see"},
    "pending":      {"public": "pull-request", "private": None, "gated": "see"},
    "granted":      {"public": "pull-request", "private": None, "gated": "pull-request"},
    "reader":       {"public": "pull-request", "private": "pull-request", "gated": "pull-request"},
    "writer":       {"public": "write", "private": "write", "gated": "write"},
    "read-token":   {"public": "read", "private": "read", "gated": "read"},
    "fine-write":   {"public": "write", "private": "write", "gated": "write"},
    "fine-other":   {"public": "read", "private": None, "gated": "see"},
    "admin":        {"public": "admin", "private": "admin", "gated": "admin"},
    "hub-admin":    {"public": "admin", "private": "admin", "gated": "admin"},
}
ORDER = ["see", "read", "pull-request", "write", "admin"]


class Permissions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = hub = harness.Hub()
        cls.tokens = {"anonymous": None, "hub-admin": hub.admin}
        for name in ("stranger", "pending", "granted", "reader", "writer", "boss"):
            cls.tokens[name] = hub.user(name)
        cls.tokens["admin"] = cls.tokens["boss"]
        hub.cli("org", "create", "acme", "--admin", "boss")
        for name in ("reader", "writer"):
            hub.cli("org", "member", "acme", name, "--role", {"reader": "read", "writer": "write"}[name])
        cls.tokens["read-token"] = hub.cli("token", "create", "boss", "--name", "r", "--role", "read")["token"]
        kinds = ("public", "private", "gated")
        fine = [f"--scope=model/acme/{name}=write" for kind in kinds
                for name in (kind, *(f"{kind}-fine-write-{action}" for action in ("move", "delete", "squash", "pr-merge")))]
        cls.tokens["fine-write"] = hub.cli("token", "create", "boss", "--name", "f", "--role", "fineGrained", *fine)["token"]
        cls.tokens["fine-other"] = hub.cli("token", "create", "boss", "--name", "o", "--role", "fineGrained", "--scope=model/acme/elsewhere=write")["token"]
        for kind in ("public", "private", "gated"):
            cls.make(kind, kind)

    @classmethod
    def tearDownClass(cls):
        cls.hub.close()

    @classmethod
    def call(cls, method, path, token, body=None, headers={}):
        return cls.hub.call(method, path, token, body, headers)

    @classmethod
    def make(cls, name, kind):
        admin = cls.tokens["admin"]
        status, _, body = cls.call("POST", "/api/repos/create", admin, {"name": name, "organization": "acme", "visibility": "private" if kind == "private" else "public"})
        assert status == 200, body
        status, _, body = cls.call("POST", f"/api/models/acme/{name}/commit/main", admin, (COMMIT % "admin").encode(), {"Content-Type": "application/x-ndjson"})
        assert status == 200, body
        status, _, body = cls.call("POST", f"/api/models/acme/{name}/discussions", admin, {"title": "t", "description": "d", "pullRequest": True})
        assert status == 200, body
        if kind == "gated":
            assert cls.call("PUT", f"/api/models/acme/{name}/settings", admin, {"gated": "manual"})[0] == 200
            cls.call("POST", f"/{'acme'}/{name}/ask-access", cls.tokens["pending"], {})
            status, _, body = cls.call("POST", f"/api/models/acme/{name}/user-access-request/grant", admin, {"user": "granted"})
            assert status == 200, body

    def act(self, action, name, caller):
        """Status of one action, done so that it could succeed."""
        token, repo = self.tokens[caller], f"/api/models/acme/{name}"
        call = lambda method, path, body=None, headers={}: self.call(method, path, token, body, headers)[0]
        unique = f"{caller}-{action}"
        if action == "list":
            found = self.call("GET", "/api/models?author=acme", token)[2]
            return 200 if f"acme/{name}" in [m["id"] for m in found] else 404
        if action in ("move", "delete", "squash", "pr-merge"):  # these use the repository up: one of its own
            kind, name = name, f"{name}-{unique}"
            self.make(name, kind)
            repo = f"/api/models/acme/{name}"
            if action == "move":
                return call("POST", "/api/repos/move", {"fromRepo": f"acme/{name}", "toRepo": f"acme/{name}-m", "type": "model"})
            if action == "delete":
                return call("DELETE", "/api/repos/delete", {"name": name, "organization": "acme", "type": "model"})
            if action == "squash":
                return call("POST", f"{repo}/super-squash/main", {"message": "s"})
            head = (COMMIT % "pr").encode()
            status, _, body = self.call("POST", f"{repo}/commit/refs%2Fpr%2F1", self.tokens["admin"], head, {"Content-Type": "application/x-ndjson"})
            assert status == 200, body
            self.call("POST", f"{repo}/discussions/1/status", self.tokens["admin"], {"status": "open"})
            return call("POST", f"{repo}/discussions/1/merge", {})
        return {
            "info": lambda: call("GET", repo),
            "discussions": lambda: call("GET", f"{repo}/discussions?p=0"),
            "tree": lambda: call("GET", f"{repo}/tree/main"),
            "paths-info": lambda: call("POST", f"{repo}/paths-info/main", {"paths": ["by-admin.txt"], "expand": False}),
            "refs": lambda: call("GET", f"{repo}/refs"),
            "commits": lambda: call("GET", f"{repo}/commits/main"),
            "compare": lambda: call("GET", f"{repo}/compare/main..main"),
            "resolve": lambda: call("GET", f"/acme/{name}/resolve/main/by-admin.txt"),
            "raw": lambda: call("GET", f"/acme/{name}/raw/main/by-admin.txt"),
            "xet-read": lambda: call("GET", f"{repo}/xet-read-token/main"),
            "git-fetch": lambda: call("GET", f"/acme/{name}/info/refs?service=git-upload-pack"),
            "lfs-download": lambda: call("POST", f"/acme/{name}.git/info/lfs/objects/batch", {"operation": "download", "objects": []}, LFS),
            "pr-open": lambda: call("POST", f"{repo}/discussions", {"title": unique, "description": "d", "pullRequest": True}),
            "discuss": lambda: call("POST", f"{repo}/discussions/1/comment", {"comment": unique}),
            "commit": lambda: call("POST", f"{repo}/commit/main", (COMMIT % unique).encode(), {"Content-Type": "application/x-ndjson"}),
            "preupload": lambda: call("POST", f"{repo}/preupload/main", {"files": [{"path": "x.txt", "sample": "eA==", "size": 1}]}),
            "branch": lambda: call("POST", f"{repo}/branch/{unique}", {}),
            "tag": lambda: call("POST", f"{repo}/tag/main", {"tag": unique}),
            "xet-write": lambda: call("GET", f"{repo}/xet-write-token/main"),
            "git-push": lambda: call("GET", f"/acme/{name}/info/refs?service=git-receive-pack"),
            "lfs-upload": lambda: call("POST", f"/acme/{name}.git/info/lfs/objects/batch", {"operation": "upload", "objects": [{"oid": "ab" * 32, "size": 5}]}, LFS),
            "settings": lambda: call("PUT", f"{repo}/settings", {"gated": "manual"} if name == "gated" else {"visibility": name}),
            "access-requests": lambda: call("GET", f"{repo}/user-access-request/pending"),
        }[action]()

    def test_the_table(self):
        wrong = []
        for caller, kinds in MAY.items():
            for kind, most in kinds.items():
                allowed = ORDER[:ORDER.index(most) + 1] if most else []
                for level, actions in ACTIONS.items():
                    for action in actions:
                        if action == "pr-merge" and (caller, kind) == ("granted", "gated"):
                            continue
                        status = self.act(action, kind, caller)
                        fine = status < 300 if level in allowed else status in (401, 403, 404)
                        # What a pull request of one's own needs is a reader's right too; references are checked one by one.
                        if not fine and action in ("preupload", "xet-write", "lfs-upload", "git-push") and "pull-request" in allowed and status < 300:
                            fine = True
                        if level not in allowed and not allowed:
                            fine = status == 404 or (status in (401, 403) and (caller == "anonymous" or action in ("git-fetch", "git-push")))
                            fine = fine or (action in ("git-fetch", "git-push", "lfs-download", "lfs-upload") and status in (401, 403, 404))
                        if not fine:
                            wrong.append(f"{caller} {action} {kind}: {status}, may {most}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_absent_and_forbidden_look_the_same(self):
        for caller in ("anonymous", "stranger", "fine-other"):
            token = self.tokens[caller]
            for method, path in (("GET", "/api/models/acme/%s"), ("GET", "/api/models/acme/%s/tree/main"), ("GET", "/acme/%s/resolve/main/x"),
                                 ("GET", "/acme/%s/info/refs?service=git-upload-pack"), ("POST", "/acme/%s.git/info/lfs/objects/batch"),
                                 ("DELETE", "/api/repos/delete"), ("GET", "/api/models/acme/%s/xet-read-token/main")):
                answers = []
                for name in ("private", "absent0"):
                    body = {"name": name, "organization": "acme"} if "delete" in path else {"operation": "download", "objects": []} if "batch" in path else None
                    status, headers, content = self.call(method, path % name if "%s" in path else path, token, body, LFS if "batch" in path else {})
                    content = json.loads(content) if isinstance(content, bytes) and content[:1] == b"{" else content
                    if isinstance(content, dict):
                        content.pop("request_id", None)  # each answer has its own
                    text = json.dumps(content) if not isinstance(content, bytes) else content.decode()
                    answers.append((status, headers.get("X-Error-Code"), headers.get("WWW-Authenticate"), text.replace(name, "NAME")))
                self.assertEqual(answers[0], answers[1], (caller, path))


if __name__ == "__main__":
    unittest.main()
