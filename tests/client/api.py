"""Everything HubClient can ask, once each with its errors, against a real hub; huggingface_hub is the other witness."""
import os, unittest

os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
import client
from huggingface_hub import HfApi

CARD = "---\nlicense: apache-2.0\npipeline_tag: image-classification\ntags: [vision]\n---\n# A model\n"


class Case(client.HubTest):
    USERS = ("alice", "bob")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.hub.cli("org", "create", "acme", "--admin", "alice")
        cls.api = HfApi(endpoint=cls.hub.url, token=cls.tokens["alice"])

    def tool(self, *words, who="alice", expect=0, **options):
        words = [*words, *(f"{name}={value}" for name, value in options.items())]
        return client.tool(*words, env=self.hub.env(self.tokens.get(who)), expect=expect)

    def fails(self, error_kind, code, *words, **options):
        error = self.tool(*words, expect=code, **options)
        self.assertEqual(error["error"], error_kind, error)
        for token in self.tokens.values():
            self.assertNotIn(token, error["message"])
        return error["message"]

    def fresh(self, *files, **options):
        Case.count = getattr(Case, "count", 0) + 1
        repo = f"alice/r{Case.count}"
        self.tool("create_repo", repo, **options)
        for path in files:
            self.api.upload_file(path_or_fileobj=b"text of " + path.encode(), path_in_repo=path, repo_id=repo)
        return repo


class Account(Case):
    def test_whoami(self):
        me = self.tool("whoami")
        self.assertEqual((me["name"], me["token_role"]), ("alice", "write"))
        self.assertEqual(me["organizations"], {"acme": "admin"})

    def test_no_token_and_a_bad_one(self):
        self.assertIn("not logged in", self.fails("Unauthorized", 4, "whoami", who=None))
        self.tokens["mallory"] = "hf_" + "x" * 34
        self.assertIn("HF_TOKEN is set", self.fails("Unauthorized", 4, "whoami", who="mallory"))

    def test_offline(self):
        error = client.tool("whoami", env=self.hub.env(self.tokens["alice"], HF_HUB_OFFLINE=1), expect=6)
        self.assertEqual(error["error"], "OfflineError")

    def test_no_hub_there(self):
        env = self.hub.env(HF_ENDPOINT="ftp://127.0.0.1", HF_TOKEN="hf_x")
        self.assertEqual(client.tool("whoami", env=env, expect=2)["error"], "ArgumentError")
        env = self.hub.env("hf_x y")
        self.assertEqual(client.tool("whoami", env=env, expect=5)["error"], "FormatError")


class Repositories(Case):
    def test_create_twice_and_delete(self):
        self.assertEqual(self.tool("create_repo", "mine"), self.hub.url + "/alice/mine")
        self.fails("Conflict", 1, "create_repo", "alice/mine")
        self.assertEqual(self.tool("create_repo", "mine", exist_ok=1), self.hub.url + "/alice/mine")
        self.tool("delete_repo", "alice/mine")
        self.fails("RepositoryNotFound", 3, "delete_repo", "alice/mine")
        self.tool("delete_repo", "alice/mine", missing_ok=1)

    def test_types_and_organisation(self):
        for kind, prefix in (("model", ""), ("dataset", "datasets/"), ("space", "spaces/")):
            url = self.tool("create_repo", "acme/thing", type=kind)
            self.assertEqual(url, f"{self.hub.url}/{prefix}acme/thing")
            self.assertEqual(self.tool("repo_info", "acme/thing", type=kind)["id"], "acme/thing")
            self.assertEqual(self.tool("list_repos", author="acme", search="thing", type=kind), ["acme/thing"])
        self.fails("Unauthorized", 4, "create_repo", "acme/other", who="bob")
        self.assertEqual(self.tool("create_repo", "acme/thing", who="bob", exist_ok=1), self.hub.url + "/acme/thing")
        self.fails("Unauthorized", 4, "create_repo", "acme/other", who="bob", exist_ok=1)
        self.fails("Unauthorized", 4, "delete_repo", "acme/thing", who="bob")

    def test_names(self):
        for name in ("a/b/c", "-a", "a..b", "a--b", "a.git", "x" * 120, "a b", "../a"):
            self.fails("ArgumentError", 2, "create_repo", name)
        self.fails("ArgumentError", 2, "create_repo", "a", type="thing")

    def test_private_is_absent_to_others(self):
        repo = self.fresh("a.txt", private=1)
        self.assertTrue(self.tool("repo_info", repo)["private"])
        for who in ("bob", None):
            for call in ("repo_info", "resolve", "list_files", "list_commits", "list_refs", "xet_token"):
                self.fails("RepositoryNotFound", 3, call, repo, who=who)
            self.fails("RepositoryNotFound", 3, "paths_info", repo, "a.txt", who=who)

    def test_settings_and_gated(self):
        repo = self.fresh("a.txt")
        self.tool("update_settings", repo, private=1)
        self.assertTrue(self.tool("repo_info", repo)["private"])
        self.tool("update_settings", repo, private=0, gated="manual")
        info = self.tool("repo_info", repo, who="bob")
        self.assertEqual((info["private"], info["gated"]), (False, "manual"))
        self.assertIn("ask for access", self.fails("GatedRepository", 4, "list_files", repo, who="bob"))
        self.tool("update_settings", repo, gated="false")
        self.tool("list_files", repo, who="bob")
        self.fails("ArgumentError", 2, "update_settings", repo, gated="perhaps")
        self.fails("Unauthorized", 4, "update_settings", repo, private=1, who="bob")

    def test_move(self):
        repo = self.fresh("a.txt")
        self.tool("move_repo", repo, "acme/moved")
        self.assertEqual(self.tool("repo_info", "acme/moved")["id"], "acme/moved")
        self.assertEqual(self.tool("repo_info", repo)["id"], "acme/moved", "the old name leads there")
        self.assertEqual(len(self.tool("paths_info", repo, "a.txt")), 1, "a POST follows too")

    def test_near_matches(self):
        self.tool("create_repo", "alice/resnet50")
        self.assertIn("did you mean 'alice/resnet50'?", self.fails("RepositoryNotFound", 3, "resolve", "alice/resnet5"))
        self.assertIn("did you mean 'alice/resnet50'?", self.fails("RepositoryNotFound", 3, "resolve", "alcie/resnet50"))
        self.tool("create_repo", "alice/secret50", private=1)
        self.assertNotIn("did you", self.fails("RepositoryNotFound", 3, "resolve", "alice/secret5", who="bob"))

    def test_list(self):
        for i in range(5):
            self.tool("create_repo", f"acme/list{i}", type="dataset")
        self.assertEqual(len(self.tool("list_repos", type="dataset", author="acme", search="list")), 5)
        self.assertEqual(len(self.tool("list_repos", type="dataset", author="acme", search="list", limit=3)), 3)
        self.assertEqual(self.tool("list_repos", search="no such thing"), [])

    def test_card(self):
        self.assertEqual(self.tool("validate_card", "alice/any", CARD), [])
        self.fails("FormatError", 5, "validate_card", "alice/any", "---\nlicense: [\n---\n")


class Contents(Case):
    def test_info(self):
        repo = self.fresh()
        self.api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=repo)
        info = self.tool("repo_info", repo)
        self.assertEqual(info["pipeline_tag"], "image-classification")
        self.assertIn("vision", info["tags"])
        self.assertEqual(info["sha"], self.api.model_info(repo).sha)

    def test_files(self):
        repo = self.fresh("b.txt", "text/x y#?.txt", "text/ü.txt", "c.bin")
        got = {f["path"]: f for f in self.tool("list_files", repo)}
        want = {f.path: f for f in self.api.list_repo_tree(repo, recursive=True) if hasattr(f, "size")}
        self.assertEqual(sorted(got), sorted(want))
        for path, file in want.items():
            self.assertEqual((got[path]["oid"], got[path]["size"]), (file.blob_id, file.size))
        self.assertEqual(got["c.bin"]["sha256"], want["c.bin"].lfs.sha256)
        self.assertEqual(got["c.bin"]["xet_hash"], want["c.bin"].xet_hash)
        self.assertEqual([f["path"] for f in self.tool("list_files", repo, folder="text")], ["text/x y#?.txt", "text/ü.txt"])
        found = self.tool("paths_info", repo, "c.bin", "text/ü.txt", "absent", "text")
        self.assertEqual([f["path"] for f in found], ["c.bin", "text/ü.txt"])
        self.assertIn("did you mean 'text'?", self.fails("EntryNotFound", 3, "list_files", repo, folder="txt"))

    def test_many_files_come_in_pages(self):
        from huggingface_hub import CommitOperationAdd
        repo = self.fresh()
        self.api.create_commit(repo, [CommitOperationAdd(f"{i % 10}/{i}.txt", b"%d" % i) for i in range(2300)],
                               commit_message="many")
        files = [f["path"] for f in self.tool("list_files", repo)]
        self.assertEqual(len(files), 2301)
        self.assertEqual(files, sorted(files))
        self.assertEqual(len(self.tool("paths_info", repo, *files[:1500])), 1500)

    def test_revisions(self):
        repo = self.fresh("a.txt")
        head = self.tool("resolve", repo)
        self.assertEqual(self.tool("resolve", repo, revision=head), head)
        self.tool("create_branch", repo, "dev/x")
        self.fails("Conflict", 1, "create_branch", repo, "dev/x")
        self.tool("create_branch", repo, "dev/x", exist_ok=1)
        self.tool("create_tag", repo, "v1.0", revision="dev/x", message="first")
        self.fails("Conflict", 1, "create_tag", repo, "v1.0")
        self.tool("create_tag", repo, "v1.0", exist_ok=1)
        for revision in ("dev/x", "v1.0", "refs/heads/main"):
            self.assertEqual(self.tool("resolve", repo, revision=revision), head)
        refs = self.tool("list_refs", repo)
        self.assertEqual(refs["branches"]["dev/x"], ["refs/heads/dev/x", head])
        self.assertEqual(list(refs["tags"]), ["v1.0"])
        self.assertIn("did you mean 'v1.0'?", self.fails("RevisionNotFound", 3, "resolve", repo, revision="v1.1"))
        self.fails("RevisionNotFound", 3, "list_files", repo, revision="f" * 40)
        self.fails("RevisionNotFound", 3, "create_tag", repo, "v2", revision="none")
        self.tool("delete_tag", repo, "v1.0")
        self.tool("delete_branch", repo, "dev/x")
        self.fails("RevisionNotFound", 3, "delete_branch", repo, "dev/x")
        self.fails("Unauthorized", 4, "delete_branch", repo, "main")
        self.fails("Unauthorized", 4, "create_branch", repo, "mine", who="bob")

    def test_commits(self):
        repo = self.fresh("a.txt", "b.txt")
        commits = self.tool("list_commits", repo)
        want = self.api.list_repo_commits(repo)
        self.assertEqual([(c["oid"], c["title"], c["authors"]) for c in commits],
                         [(c.commit_id, c.title, c.authors) for c in want])
        self.assertEqual(len(self.tool("list_commits", repo, limit=2)), 2)
        self.assertEqual(len(self.tool("list_commits", repo, limit=0)), 0)

    def test_pull_request(self):
        repo = self.fresh("a.txt")
        number = self.tool("create_pull_request", repo, "A change", who="bob")
        self.assertIn(f"refs/pr/{number}", [ref for ref, _ in self.tool("list_refs", repo)["pull_requests"].values()])
        self.assertEqual(self.tool("resolve", repo, revision=f"refs/pr/{number}"), self.tool("resolve", repo))

    def test_xet_token(self):
        repo = self.fresh("a.txt")
        token = self.tool("xet_token", repo)
        self.assertTrue(token["cas_url"].startswith(self.hub.url))
        self.assertGreater(token["expires"], 0)
        self.tool("xet_token", repo, kind="write")
        self.fails("Unauthorized", 4, "xet_token", repo, kind="write", who="bob")


unittest.main()
