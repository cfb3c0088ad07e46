"""Attacks on the decision whether a model's code may run: through its JSON, its files and what was trusted before."""
import json, os, unittest
from _models import Models


class Trust(Models):
    def test_the_canary_sings_where_code_is_trusted(self):
        model = self.write()
        self.assertEqual(self.transformers(model), "executed")
        done = self.predict(model)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(self.ran("cpp"))

    def test_s2_no_key_of_the_config_grants_trust(self):
        for name, keys in {"trust_remote_code": {"trust_remote_code": True}, "nested": {"text_config": {"trust_remote_code": True}},
                           "policy": {"trust_policy": {"ask": True}, "trusted": True, "code_revision": "main"},
                           "kernels": {"attn_implementation": "evil/kernel", "_attn_implementation_internal": "evil/kernel"}}.items():
            model = self.write(name, **keys)
            self.refused("S2", name, self.predict(model, trust=False), 4, self.transformers(model, trust_remote_code=None))

    def test_s3_keys_that_are_objects_elsewhere(self):
        for name, keys in {"auto_map null": {"auto_map": None, "auto_map_cpp": None}, "auto_map list": {"auto_map": [], "auto_map_cpp": []},
                           "model_type list": {"model_type": [], "auto_map_cpp": {}, "auto_map": {}},
                           "class": {"__class__": 1, "to_dict": 2, "auto_map_cpp": {"AutoModel": {"__class__": "x"}}}}.items():
            model = self.write(name, **keys)
            self.refused("S3", name, self.predict(model), 5, self.transformers(model, trust_remote_code=None))

    def test_s4_json_bombs(self):
        for name, text in {"depth": "[" * 100000 + "]" * 100000, "twice": '{"model_type": "bert", "model_type": "evil"}',
                           "wide": '{"a": "' + "x" * (17 << 20) + '"}'}.items():
            model = self.write(name)
            (model / "config.json").write_text(text)
            self.refused("S4", name, self.predict(model), 5, self.transformers(model, trust_remote_code=None))

    def test_s7_references_that_lead_out(self):
        outside = self.write("outside")
        for name in (f"{outside}/M.EvilConfig", f"{outside}--M.EvilConfig", "../outside/M.EvilConfig", f"file://{outside}/M.EvilConfig",
                     "M.EvilConfig;system", "a/../../outside/M.EvilConfig", "org/code@main--M.EvilConfig", "./M.EvilConfig", "M.EvilConfig\n"):
            cpp, python = name.replace("M.", "modeling_evil."), name.replace("M.", "configuration_evil.")
            model = self.write("inside", without_code=True, auto_map_cpp={"AutoModel": cpp}, auto_map={"AutoConfig": python})
            shown = name.replace(str(outside), "/outside").replace("\n", "\\n")
            self.refused("S7", shown, self.predict(model), 5, self.transformers(model))

    def test_s14_links_that_lead_out(self):
        outside = self.write("outside")
        for name in ("file", "folder"):
            model = self.write(name)
            for file in ("modeling_evil.h", "configuration_evil.py"):
                (model / file).unlink()
                if name == "file":
                    (model / file).symlink_to(outside / file)
            if name == "folder":
                (model / "sub").symlink_to(outside)
                config = {"AutoModel": "sub/modeling_evil.EvilModel"}
                (model / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map_cpp": config}))
            theirs = self.transformers(model) if name == "file" else None
            self.refused("S14", f"a {name}", self.predict(model), 5, theirs)

    def test_s17_escape_sequences_reach_no_terminal(self):
        evil = "\x1b]0;owned\x07\x1b[2K\x1b[1A\u202e"
        model = self.write("text")
        (model / "modeling_evil.h").write_text(f"// system(\"{evil}\");\n")
        shown = self.run_command("trust", "show", model, expect=0)  # run_command looks for what escaped
        self.assertIn("\\x1b]0;owned\\x07", shown.stderr)
        self.assertNotIn("\u202e", shown.stderr)
        self.refused("S17", "code", self.predict(model, trust=False), 4)
        model = self.write("names", auto_map_cpp={f"Auto{evil}": f"m{evil}.C"})
        self.refused("S17", "names", self.predict(model), 5)

    def test_s22_other_bytes_than_the_trusted_ones(self):
        def flipped(model):
            for file in ("modeling_evil.h", "configuration_evil.py"):
                (model / file).write_text(self.other_bytes((model / file).read_text()))

        def one_file_more(model):
            (model / "more.h").write_text("// more\n")
            (model / "modeling_evil.h").write_text('#include "more.h"\n' + (model / "modeling_evil.h").read_text())

        def other_class(model):
            (model / "other.h").write_text((model / "modeling_evil.h").read_text())
            config = json.loads((model / "config.json").read_text()) | {"auto_map_cpp": {"AutoModel": "other.EvilModel"}}
            (model / "config.json").write_text(json.dumps(config))

        for change in (flipped, one_file_more, other_class):
            model = self.write(change.__name__)
            self.run_command("trust", "add", model, expect=0)
            self.assertEqual(self.transformers(model), "executed")
            change(model)
            done = self.predict(model)
            self.assertIn("+++ b/", done.stderr)
            self.assertIn(f"pretrained trust add {model}", done.stderr)
            self.refused("S22", change.__name__, done, 4, self.transformers(model))

    def test_s25_a_trust_file_that_cannot_be_believed_trusts_nothing(self):
        for name in ("damaged", "writable by others", "a link", "of another format"):
            model, file = self.write(name.replace(" ", "-")), self.root / name.replace(" ", "-") / "trust.json"
            self.run_command("trust", "add", model, expect=0, PRETRAINED_TRUST_FILE=file)
            if name == "damaged":
                file.write_text(file.read_text()[:-20])
            elif name == "a link":
                file.rename(self.root / "elsewhere.json"), file.symlink_to(self.root / "elsewhere.json")
            elif name == "of another format":
                file.write_text('{"trusted": "*", "version": 1}')
            else:
                os.chmod(file, 0o666)
            expect = 5 if name in ("damaged", "of another format") else 1
            for trust in (False, True):
                self.refused("S25", f"{name}, {'true' if trust else 'as recorded'}", self.predict(model, trust, PRETRAINED_TRUST_FILE=file), expect)


if __name__ == "__main__":
    unittest.main()
