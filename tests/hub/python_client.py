"""huggingface_hub 2.4.0 does everything it can do, once through Xet and once through LFS (HF_HUB_DISABLE_XET=1)."""
import hashlib, io, json, os, pathlib, random, subprocess, sys, tempfile, typing, unittest, urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness

if "HUB_TEST_URL" not in os.environ:  # the client reads its settings once: one process for each way
    failed = 0
    for name, xet_off, options in [("xet", "0", []), ("lfs", "1", []), ("multipart", "1", ["--lfs-part-size", "5MB"])]:
        with harness.hub(*options) as server:
            alice, bob = server.user("alice"), server.user("bob")
            server.cli("org", "create", "acme", "--admin", "alice")
            env = server.env(HF_HUB_DISABLE_XET=xet_off, HUB_TEST_URL=server.url, HUB_TEST_ALICE=alice, HUB_TEST_BOB=bob,
                             HUB_TEST_MODE=name, HUB_TEST_ADMIN=server.admin)
            print(f"--- {name}", flush=True)
            failed |= subprocess.run([sys.executable, "-W", "ignore::ResourceWarning", __file__, *sys.argv[1:]],
                                     env=env).returncode
            if failed:
                print((server.folder / "server.log").read_text()[-5000:])
            problems = server.cli("fsck")["problems"]
            assert not problems, problems
    sys.exit(failed)

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, ModelCard, hf_hub_download, snapshot_download
from huggingface_hub.errors import (BadRequestError, EntryNotFoundError, GatedRepoError, HfHubHTTPError, RemoteEntryNotFoundError,
                                    RepositoryNotFoundError, RevisionNotFoundError)

URL, ALICE, BOB, MODE = (os.environ[k] for k in ("HUB_TEST_URL", "HUB_TEST_ALICE", "HUB_TEST_BOB", "HUB_TEST_MODE"))
alice, bob, nobody = HfApi(token=ALICE), HfApi(token=BOB), HfApi(token=False)
BIG = random.Random(7).randbytes(12 * 1024 * 1024)
CARD = "---\nlicense: apache-2.0\ntags:\n- vision\npipeline_tag: image-classification\nlibrary_name: pretrained\n---\n# A model\n"


def fresh(api=alice, name=None, **options):
    fresh.count = getattr(fresh, "count", 0) + 1
    return api.create_repo(name or f"{api.whoami()['name']}/r{fresh.count}", **options).repo_id


class Basics(unittest.TestCase):
    def test_whoami(self):
        me = alice.whoami()
        self.assertEqual((me["name"], me["type"], me["orgs"][0]["name"]), ("alice", "user", "acme"))
        self.assertEqual(me["auth"]["accessToken"]["role"], "write")
        with self.assertRaises(HfHubHTTPError) as caught:
            HfApi(token="hf_" + "x" * 34).whoami()
        self.assertIn("Invalid user token", str(caught.exception))

    def test_create_twice_and_delete(self):
        repo = fresh()
        self.assertEqual(alice.create_repo(repo, exist_ok=True).repo_id, repo)
        with self.assertRaises(HfHubHTTPError) as caught:
            alice.create_repo(repo)
        self.assertEqual(caught.exception.response.status_code, 409)
        alice.delete_repo(repo)
        with self.assertRaises(RepositoryNotFoundError):
            alice.model_info(repo)
        alice.delete_repo(repo, missing_ok=True)

    def test_types_and_organisation(self):
        for kind in ("model", "dataset", "space", "kernel"):
            options = {"space_sdk": "static"} if kind == "space" else {}
            repo = alice.create_repo("acme/thing", repo_type=kind, **options)
            self.assertEqual(repo.repo_type, kind)
            alice.upload_file(path_or_fileobj=b"hello", path_in_repo="a.txt", repo_id="acme/thing", repo_type=kind)
            path = alice.hf_hub_download("acme/thing", "a.txt", repo_type=kind)
            self.assertEqual(pathlib.Path(path).read_text(), "hello")
        with self.assertRaises(HfHubHTTPError):
            bob.create_repo("acme/mine")
        with self.assertRaises(HfHubHTTPError):
            bob.create_repo("alice/mine")

    def test_kernel(self):
        repo, kind = "acme/activation", {"repo_type": "kernel"}
        alice.create_repo(repo, private=True, **kind)
        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "build/torch-cpu").mkdir(parents=True)
        (folder / "README.md").write_text("---\nlicense: mit\ntags: [kernel]\n---\n")
        library = BIG[::-1]
        (folder / "build/torch-cpu/_activation.abi3.so").write_bytes(library)
        commit = alice.upload_folder(folder_path=folder, repo_id=repo, **kind)
        info = alice.kernel_info(repo)
        self.assertEqual((info.id, info.sha, info.private, info.author), (repo, commit.oid, True, "acme"))
        self.assertEqual(alice.repo_info(repo, revision="main", **kind).sha, commit.oid)
        local = pathlib.Path(alice.snapshot_download(repo, cache_dir=tempfile.mkdtemp(), **kind))
        self.assertEqual((local / "build/torch-cpu/_activation.abi3.so").read_bytes(), library)
        alice.create_branch(repo, branch="v1", **kind)
        alice.create_tag(repo, tag="v1.0", **kind)
        self.assertEqual({b.name for b in alice.list_repo_refs(repo, **kind).branches}, {"main", "v1"})
        self.assertIn("README.md", [e.path for e in alice.list_repo_tree(repo, **kind)])
        with self.assertRaises(RepositoryNotFoundError):
            bob.kernel_info(repo)
        with self.assertRaises(RepositoryNotFoundError):
            alice.model_info(repo)
        alice.move_repo(repo, "alice/activation", **kind)
        self.assertEqual(alice.kernel_info(repo).id, "alice/activation")
        alice.delete_repo("alice/activation", **kind)
        with self.assertRaises(RepositoryNotFoundError):
            alice.kernel_info("alice/activation")

    def test_private_is_absent_to_others(self):
        repo = fresh(private=True)
        alice.upload_file(path_or_fileobj=b"secret", path_in_repo="s.txt", repo_id=repo)
        for api in (bob, nobody):
            for call in (api.model_info, api.list_repo_files, api.list_repo_commits, api.list_repo_refs):
                with self.assertRaises(RepositoryNotFoundError):
                    call(repo)
            with self.assertRaises(RepositoryNotFoundError):
                api.hf_hub_download(repo, "s.txt")
            self.assertNotIn(repo, [m.id for m in api.list_models()])
        self.assertIn(repo, [m.id for m in alice.list_models(author="alice")])
        alice.update_repo_settings(repo, private=False)
        self.assertEqual(nobody.model_info(repo).private, False)

    def test_move(self):
        repo = fresh()
        alice.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo)
        alice.move_repo(repo, "acme/moved")
        self.assertEqual(alice.model_info("acme/moved").id, "acme/moved")
        self.assertEqual(nobody.model_info(repo).id, "acme/moved")
        self.assertEqual(pathlib.Path(nobody.hf_hub_download(repo, "x.txt")).read_text(), "x")
        alice.create_repo(repo)  # takes the name back
        self.assertEqual(nobody.model_info(repo).id, repo)
        self.assertFalse(nobody.file_exists(repo, "x.txt"))
        alice.delete_repo(repo)
        self.assertFalse(nobody.repo_exists(repo))
        self.assertTrue(nobody.repo_exists("acme/moved"))


class Content(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.repo = fresh()
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        (cls.folder / "README.md").write_text(CARD)
        (cls.folder / "config.json").write_text('{"model_type": "resnet", "architectures": ["ResnetModel"]}')
        (cls.folder / "sub/deep").mkdir(parents=True)
        (cls.folder / "sub/deep/ünïcode name.txt").write_text("text")
        (cls.folder / "weights.bin").write_bytes(BIG)
        cls.commit = alice.upload_folder(folder_path=cls.folder, repo_id=cls.repo, commit_message="All of it", commit_description="Said at length.")

    def test_info(self):
        info = nobody.model_info(self.repo, files_metadata=True)
        self.assertEqual(info.sha, self.commit.oid)
        files = {s.rfilename: s for s in info.siblings}
        self.assertEqual(set(files), {".gitattributes", "README.md", "config.json", "sub/deep/ünïcode name.txt", "weights.bin"})
        self.assertEqual(files["weights.bin"].lfs.sha256, hashlib.sha256(BIG).hexdigest())
        self.assertEqual(files["weights.bin"].size, len(BIG))
        self.assertEqual((info.pipeline_tag, info.library_name, info.card_data.license), ("image-classification", "pretrained", "apache-2.0"))
        self.assertIn("vision", info.tags)
        self.assertEqual(info.config["model_type"], "resnet")
        self.assertEqual(nobody.model_info(self.repo, revision="main").sha, self.commit.oid)
        self.assertEqual(nobody.model_info(self.repo, expand=["sha", "downloads"]).sha, self.commit.oid)

    def test_lists(self):
        self.assertIn(self.repo, [m.id for m in nobody.list_models(filter="vision")])
        self.assertIn(self.repo, [m.id for m in nobody.list_models(pipeline_tag="image-classification", sort="last_modified")])
        self.assertIn(self.repo, [m.id for m in nobody.list_models(search=self.repo.split("/")[1])])
        self.assertNotIn(self.repo, [m.id for m in nobody.list_models(search="zzzz-nothing")])
        for i in range(5):
            fresh()
        ids = [m.id for m in nobody.list_models(author="alice", limit=4)]
        self.assertEqual(len(set(ids)), 4)

    def test_expand(self):
        from huggingface_hub import hf_api
        everything = typing.get_args(hf_api.ExpandModelProperty_T)
        info = nobody.model_info(self.repo, expand=list(everything))
        self.assertEqual((info.sha, info.author, info.pipeline_tag), (self.commit.oid, "alice", "image-classification"))
        self.assertEqual((info.security_repo_status, info.gguf, info.base_models, info.inference_provider_mapping), (None, None, None, []))
        self.assertIn("weights.bin", [s.rfilename for s in info.siblings])
        listed = {m.id: m for m in nobody.list_models(author="alice", expand=list(everything))}[self.repo]
        self.assertEqual((listed.sha, listed.config, len(listed.siblings)), (info.sha, info.config, len(info.siblings)))
        only = next(iter(nobody.list_models(search=self.repo, expand=["likes"])))
        self.assertEqual({k for k, v in vars(only).items() if v is not None} - {"_id"}, {"id", "likes"})
        self.assertIs(nobody.model_info(self.repo, securityStatus=True).security_repo_status["scansDone"], False)
        with self.assertRaises(BadRequestError):
            nobody.model_info(self.repo, expand=["nonsense"])
        with self.assertRaises(BadRequestError):
            list(nobody.list_models(expand=["nonsense"]))
        for kind, names in (("dataset", hf_api.ExpandDatasetProperty_T), ("space", hf_api.ExpandSpaceProperty_T)):
            repo = fresh(name=f"alice/expanded-{kind}", repo_type=kind, space_sdk="static" if kind == "space" else None)
            names = list(typing.get_args(names))
            self.assertEqual(alice.repo_info(repo, repo_type=kind, expand=names).author, "alice")
            lists = {"dataset": nobody.list_datasets, "space": nobody.list_spaces}[kind]
            self.assertIn(repo, [r.id for r in lists(author="alice", expand=names)])

    def test_lists_heed_what_they_are_asked(self):
        repo = fresh(name="alice/tagged", repo_type="dataset")
        card = "---\nlanguage: [en]\ntask_categories: [image-classification]\nsize_categories: [n<1K]\n---\n"
        alice.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repo, repo_type="dataset")
        found = lambda **query: [d.id for d in nobody.list_datasets(author="alice", **query)]
        self.assertEqual(found(language="en", task_categories="image-classification", size_categories="n<1K"), [repo])
        self.assertEqual(found(language="fr"), [])
        self.assertEqual(found(dataset_name="tagged", search="alice"), [repo])
        self.assertEqual(found(dataset_name="tagged", search="zzz"), [])
        self.assertEqual(found(dataset_name="tagged", gated=True), [])
        space = fresh(name="alice/linked", repo_type="space", space_sdk="static")
        alice.upload_file(path_or_fileobj=f"---\nsdk: static\nmodels: [{self.repo}]\n---\n".encode(), path_in_repo="README.md", repo_id=space, repo_type="space")
        self.assertEqual([s.id for s in nobody.list_spaces(models=self.repo)], [space])
        self.assertEqual([s.id for s in nobody.list_spaces(linked=True)], [space])
        self.assertEqual([s.id for s in nobody.list_spaces(datasets="alice/absent")], [])
        for refused in ({"apps": "vllm"}, {"inference": "warm"}, {"inference_provider": "all"}):
            with self.assertRaises(BadRequestError):
                list(nobody.list_models(**refused))

    def test_tree_and_paths(self):
        tree = {e.path: e for e in nobody.list_repo_tree(self.repo, recursive=True, expand=True)}
        self.assertIn("sub/deep", tree)
        self.assertEqual(tree["weights.bin"].lfs.sha256, hashlib.sha256(BIG).hexdigest())
        self.assertEqual(tree["weights.bin"].last_commit.oid, self.commit.oid)
        self.assertEqual({e.path for e in nobody.list_repo_tree(self.repo, "sub")}, {"sub/deep"})
        with self.assertRaises(EntryNotFoundError):
            list(nobody.list_repo_tree(self.repo, "absent"))
        found = nobody.get_paths_info(self.repo, ["weights.bin", "absent", "sub"], expand=True)
        self.assertEqual({e.path for e in found}, {"weights.bin", "sub"})

    def test_commits(self):
        commits = nobody.list_repo_commits(self.repo)
        self.assertEqual([c.title for c in commits][-2:], ["All of it", "initial commit"])
        self.assertEqual(commits[-2].message, "Said at length.")
        self.assertEqual(commits[-2].authors, ["alice"])

    def test_download(self):
        for revision in (None, "main", self.commit.oid):
            folder = snapshot_download(self.repo, revision=revision, token=False, cache_dir=tempfile.mkdtemp())
            self.assertEqual(pathlib.Path(folder).name, self.commit.oid)
            for path in self.folder.rglob("*"):
                if path.is_file():
                    self.assertEqual((pathlib.Path(folder) / path.relative_to(self.folder)).read_bytes(), path.read_bytes())
        local = tempfile.mkdtemp()
        snapshot_download(self.repo, local_dir=local, allow_patterns=["*.bin"])
        self.assertEqual((pathlib.Path(local) / "weights.bin").read_bytes(), BIG)

    def test_what_is_not_there(self):
        with self.assertRaises(RemoteEntryNotFoundError):
            hf_hub_download(self.repo, "absent.txt", cache_dir=tempfile.mkdtemp())
        with self.assertRaises(RevisionNotFoundError):
            hf_hub_download(self.repo, "README.md", revision="absent", cache_dir=tempfile.mkdtemp())
        with self.assertRaises(RepositoryNotFoundError):
            hf_hub_download("alice/absent", "README.md", cache_dir=tempfile.mkdtemp())
        self.assertFalse(nobody.repo_exists("alice/absent"))
        self.assertFalse(nobody.revision_exists(self.repo, "absent"))
        self.assertFalse(nobody.file_exists(self.repo, "absent"))
        self.assertTrue(nobody.file_exists(self.repo, "weights.bin"))

    def test_again_changes_nothing(self):
        again = alice.upload_folder(folder_path=self.folder, repo_id=self.repo)
        self.assertEqual(again.oid, nobody.model_info(self.repo).sha)
        self.assertEqual(again.oid, self.commit.oid)

    def test_file_system_view(self):
        from huggingface_hub import HfFileSystem
        fs = HfFileSystem(token=ALICE, endpoint=URL)
        self.assertEqual(fs.cat(f"{self.repo}/config.json"), (self.folder / "config.json").read_bytes())
        with fs.open(f"{self.repo}/weights.bin") as file:
            file.seek(1_000_000)
            self.assertEqual(file.read(100), BIG[1_000_000:1_000_100])


class Commits(unittest.TestCase):
    def test_operations(self):
        repo = fresh()
        alice.create_commit(repo, [CommitOperationAdd("a.txt", b"a"), CommitOperationAdd("d/b.txt", b"b"), CommitOperationAdd("big.bin", BIG)], commit_message="add")
        alice.create_commit(repo, [CommitOperationCopy("big.bin", "copy/big.bin"), CommitOperationDelete("a.txt"), CommitOperationDelete("d/", is_folder=True)], commit_message="change")
        self.assertEqual(set(alice.list_repo_files(repo)), {".gitattributes", "big.bin", "copy/big.bin"})
        alice.delete_file("copy/big.bin", repo)
        with self.assertRaises(EntryNotFoundError):
            alice.delete_file("copy/big.bin", repo)
        self.assertEqual(len(alice.list_repo_commits(repo)), 4)

    def test_file_objects(self):
        repo = fresh()
        alice.upload_file(path_or_fileobj=io.BytesIO(BIG), path_in_repo="big.bin", repo_id=repo)
        self.assertEqual(pathlib.Path(alice.hf_hub_download(repo, "big.bin", cache_dir=tempfile.mkdtemp())).read_bytes(), BIG)

    def test_stale_parent(self):
        repo = fresh()
        first = alice.model_info(repo).sha
        alice.upload_file(path_or_fileobj=b"1", path_in_repo="1.txt", repo_id=repo)
        with self.assertRaises(HfHubHTTPError) as caught:
            alice.create_commit(repo, [CommitOperationAdd("2.txt", b"2")], commit_message="late", parent_commit=first)
        self.assertEqual(caught.exception.response.status_code, 412)
        self.assertNotIn("2.txt", alice.list_repo_files(repo))

    def test_strangers_cannot_write(self):
        repo = fresh()
        for api in (bob, nobody):
            with self.assertRaises(HfHubHTTPError) as caught:
                api.upload_file(path_or_fileobj=b"1", path_in_repo="1.txt", repo_id=repo)
            self.assertIn(caught.exception.response.status_code, (401, 403))

    def test_branches_and_tags(self):
        repo = fresh()
        with self.assertRaises(RevisionNotFoundError):
            alice.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, revision="dev/x")
        alice.create_branch(repo, branch="dev/x")
        alice.create_branch(repo, branch="dev/x", exist_ok=True)
        with self.assertRaises(HfHubHTTPError):
            alice.create_branch(repo, branch="dev/x")
        commit = alice.upload_file(path_or_fileobj=b"x", path_in_repo="sub/x.txt", repo_id=repo, revision="dev/x")
        self.assertNotIn("sub/x.txt", alice.list_repo_files(repo))
        self.assertIn("sub/x.txt", alice.list_repo_files(repo, revision="dev/x"))
        alice.create_tag(repo, tag="v1", revision="dev/x", tag_message="first")
        refs = alice.list_repo_refs(repo)
        self.assertEqual({b.name for b in refs.branches}, {"main", "dev/x"})
        self.assertEqual([t.name for t in refs.tags], ["v1"])
        self.assertEqual(alice.model_info(repo, revision="v1").sha, commit.oid)
        path = alice.hf_hub_download(repo, "sub/x.txt", revision="v1", cache_dir=tempfile.mkdtemp())
        self.assertIn(commit.oid, path)
        alice.delete_tag(repo, tag="v1")
        alice.delete_branch(repo, branch="dev/x")
        self.assertEqual([b.name for b in alice.list_repo_refs(repo).branches], ["main"])
        with self.assertRaises(HfHubHTTPError):
            alice.delete_branch(repo, branch="main")

    def test_squash(self):
        repo = fresh()
        for i in range(3):
            alice.upload_file(path_or_fileobj=str(i).encode(), path_in_repo=f"{i}.txt", repo_id=repo)
        alice.super_squash_history(repo)
        self.assertEqual(len(alice.list_repo_commits(repo)), 1)
        self.assertEqual(len(alice.list_repo_files(repo)), 4)

    def test_many_small_files(self):
        repo, folder = fresh(), pathlib.Path(tempfile.mkdtemp())
        for i in range(600):
            (folder / f"{i % 7}").mkdir(exist_ok=True)
            (folder / f"{i % 7}/{i}.txt").write_text(f"file {i}")
        alice.upload_folder(folder_path=folder, repo_id=repo)
        self.assertEqual(len(alice.list_repo_files(repo)), 601)
        local = pathlib.Path(snapshot_download(repo, cache_dir=tempfile.mkdtemp()))
        self.assertEqual((local / "3/3.txt").read_text(), "file 3")

    def test_empty_file_and_odd_names(self):
        repo = fresh()
        names = ["empty", "with space.txt", "a+b&c=d.txt", "per%cent.txt", "한글.txt", "quote'\".txt", "#hash?.txt"]
        alice.create_commit(repo, [CommitOperationAdd(n, b"" if n == "empty" else n.encode()) for n in names], commit_message="odd")
        self.assertEqual(set(alice.list_repo_files(repo)), {".gitattributes", *names})
        local = pathlib.Path(snapshot_download(repo, cache_dir=tempfile.mkdtemp()))
        for name in names:
            self.assertEqual((local / name).read_bytes(), b"" if name == "empty" else name.encode())


class Rest(unittest.TestCase):
    """What else the client can ask."""

    def test_rights(self):
        repo = fresh(private=True)
        alice.auth_check(repo, write=True)
        with self.assertRaises(RepositoryNotFoundError):
            bob.auth_check(repo)
        alice.update_repo_settings(repo, private=False)
        bob.auth_check(repo)
        with self.assertRaises(HfHubHTTPError):
            bob.auth_check(repo, write=True)

    def test_copies(self):
        repo, other = fresh(), fresh()
        alice.upload_file(path_or_fileobj=BIG, path_in_repo="big.bin", repo_id=repo)
        copy = alice.duplicate_repo(repo, "alice/duplicate").repo_id
        alice.copy_files(f"hf://{repo}/big.bin", f"hf://{other}/sub/copied.bin")
        alice.create_commit(other, [CommitOperationCopy("big.bin", "again.bin", src_repo_id=repo, src_repo_type="model")], commit_message="copy")
        for name, path in ((copy, "big.bin"), (other, "sub/copied.bin"), (other, "again.bin")):
            self.assertEqual(pathlib.Path(alice.hf_hub_download(name, path, cache_dir=tempfile.mkdtemp())).read_bytes(), BIG)

    def test_large_files_can_be_deleted_for_good(self):
        repo = fresh()
        alice.upload_file(path_or_fileobj=BIG, path_in_repo="big.bin", repo_id=repo)
        files = list(alice.list_lfs_files(repo))
        self.assertEqual([(f.filename, f.size) for f in files], [("big.bin", len(BIG))])
        with self.assertRaises(HfHubHTTPError):  # a commit still names it
            alice.permanently_delete_lfs_files(repo, files)
        alice.delete_file("big.bin", repo)
        alice.super_squash_history(repo)
        alice.permanently_delete_lfs_files(repo, files)
        self.assertEqual(list(alice.list_lfs_files(repo)), [])

    def test_people(self):
        self.assertEqual(nobody.get_user_overview("alice").username, "alice")
        self.assertEqual(nobody.get_organization_overview("acme").name, "acme")
        self.assertEqual([u.username for u in nobody.list_organization_members("acme")], ["alice"])
        self.assertEqual(list(nobody.list_user_followers("alice")) + list(nobody.list_user_following("alice")), [])
        self.assertIn(fresh(), [r.id for r in alice.list_user_repos()])

    def test_webhooks(self):
        watched = [{"type": "user", "name": "alice"}]
        made = alice.create_webhook(url="https://example.org/a", watched=watched, domains=["repo", "discussion"], secret="s")
        self.assertTrue(alice.disable_webhook(made.id).disabled)
        self.assertFalse(alice.enable_webhook(made.id).disabled)
        alice.update_webhook(made.id, url="https://example.org/b", watched=watched, domains=["repo"])
        self.assertEqual([w.url for w in alice.list_webhooks()], ["https://example.org/b"])
        alice.delete_webhook(made.id)
        self.assertEqual(alice.list_webhooks(), [])

    def test_headers_of_weights(self):
        import numpy
        from safetensors.numpy import save
        repo, shards = fresh(), {}
        for i in (1, 2):
            shards[f"model-0000{i}-of-00002.safetensors"] = save({f"layer{i}.weight": numpy.zeros((3, i), "float32")}, {"format": "pt"})
        index = {"metadata": {"total_size": 36}, "weight_map": {f"layer{i}.weight": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}}
        files = {**shards, "model.safetensors.index.json": json.dumps(index).encode()}
        alice.create_commit(repo, [CommitOperationAdd(path, content) for path, content in files.items()], commit_message="weights")
        for found in (nobody.get_safetensors_metadata(repo), nobody.get_sharded_safetensors_metadata(repo)):
            self.assertEqual((found.sharded, found.weight_map), (True, index["weight_map"]))
            self.assertEqual(found.files_metadata["model-00002-of-00002.safetensors"].tensors["layer2.weight"].shape, [3, 2])
        self.assertEqual(found.metadata, index["metadata"])
        self.assertEqual(nobody.model_info(repo).safetensors.total, 9)
        with self.assertRaises(EntryNotFoundError):
            nobody.get_sharded_safetensors_metadata(repo, filename="absent.index.json")


class Social(unittest.TestCase):
    def test_pull_request(self):
        repo = fresh()
        alice.upload_file(path_or_fileobj=b"base", path_in_repo="base.txt", repo_id=repo)
        info = bob.create_commit(repo, [CommitOperationAdd("new.txt", b"new"), CommitOperationAdd("big.bin", BIG)], commit_message="Please take this", create_pr=True)
        self.assertEqual(info.pr_num, 1)
        self.assertEqual(info.pr_revision, "refs/pr/1")
        self.assertNotIn("new.txt", alice.list_repo_files(repo))
        self.assertIn("new.txt", alice.list_repo_files(repo, revision="refs/pr/1"))
        found = list(nobody.get_repo_discussions(repo))
        self.assertEqual([(d.num, d.is_pull_request, d.author) for d in found], [(1, True, "bob")])
        bob.comment_discussion(repo, 1, "Any news?")
        details = alice.get_discussion_details(repo, 1)
        self.assertIn("new.txt", details.diff)
        with self.assertRaises(HfHubHTTPError):
            bob.merge_pull_request(repo, 1)
        alice.merge_pull_request(repo, 1)
        self.assertEqual(alice.get_discussion_details(repo, 1).status, "merged")
        self.assertEqual(pathlib.Path(alice.hf_hub_download(repo, "big.bin", cache_dir=tempfile.mkdtemp())).read_bytes(), BIG)

    def test_upload_folder_as_pull_request(self):
        repo, folder = fresh(), pathlib.Path(tempfile.mkdtemp())
        (folder / "x.txt").write_text("x")
        bob.upload_folder(folder_path=folder, repo_id=repo, create_pr=True)
        self.assertIn("x.txt", alice.list_repo_files(repo, revision="refs/pr/1"))

    def test_discussion(self):
        repo = fresh()
        talk = bob.create_discussion(repo, title="Hello", description="How does it work?")
        comment = alice.comment_discussion(repo, talk.num, "Like this.")
        alice.edit_discussion_comment(repo, talk.num, comment.id, "Like that.")
        bob.rename_discussion(repo, talk.num, "Hello again")
        alice.change_discussion_status(repo, talk.num, "closed", comment="done")
        details = nobody.get_discussion_details(repo, talk.num)
        self.assertEqual((details.title, details.status, details.is_pull_request), ("Hello again", "closed", False))
        self.assertIn("Like that.", [getattr(e, "content", None) for e in details.events])

    def test_attachment(self):
        picture = pathlib.Path(tempfile.mkdtemp()) / "p.png"
        picture.write_bytes(b"\x89PNG\r\n\x1a\n" + BIG[:50_000])
        url = bob.upload_attachment(picture)
        self.assertTrue(url.startswith(URL + "/uploads/"), url)
        with urllib.request.urlopen(url) as answer:
            self.assertEqual((answer.read(), answer.headers["Content-Type"]), (picture.read_bytes(), "image/png"))
        repo = fresh()
        talk = bob.create_discussion(repo, title="Look", description=f"![picture]({url})")
        self.assertIn(url, nobody.get_discussion_details(repo, talk.num).events[0].content)
        with self.assertRaises(HfHubHTTPError):
            nobody.upload_attachment(picture)

    def test_gated(self):
        repo = fresh()
        alice.upload_file(path_or_fileobj=b"g", path_in_repo="g.txt", repo_id=repo)
        alice.update_repo_settings(repo, gated="manual")
        for api in (bob, nobody):
            self.assertEqual(api.model_info(repo).gated, "manual")
            with self.assertRaises(GatedRepoError):
                api.hf_hub_download(repo, "g.txt", cache_dir=tempfile.mkdtemp())
        alice.grant_access(repo, "bob")
        self.assertEqual(pathlib.Path(bob.hf_hub_download(repo, "g.txt", cache_dir=tempfile.mkdtemp())).read_text(), "g")
        self.assertEqual([r.username for r in alice.list_accepted_access_requests(repo)], ["bob"])

    def test_likes(self):
        repo = fresh()
        self.assertEqual(nobody.model_info(repo).likes, 0)
        self.assertNotIn(repo, alice.list_liked_repos("alice").models)

    def test_cards(self):
        repo = fresh()
        ModelCard(CARD).push_to_hub(repo, token=ALICE)
        self.assertEqual(ModelCard.load(repo, token=ALICE).data.license, "apache-2.0")
        with self.assertRaises(ValueError) as caught:
            alice.upload_file(path_or_fileobj=b"---\nlicense: mit\nx: \x1b[31m\n---\n", path_in_repo="README.md", repo_id=repo)
        self.assertIn("line 3, column 4: control characters are not allowed", str(caught.exception))
        with self.assertRaises(ValueError):
            alice.upload_file(path_or_fileobj=b"---\nlicense: [\n---\n", path_in_repo="README.md", repo_id=repo)


if __name__ == "__main__":
    unittest.main()
