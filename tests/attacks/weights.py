"""Attacks through the files that hold weights: pickles that call functions, archives that inflate, indexes and headers that
lie. Transformers tries the same bytes beside the config of its own BERT."""
import io, json, os, pathlib, pickle, shutil, struct, subprocess, sys, unittest, zipfile
from _models import Models
from _report import record

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
MAKE_BERT = """
import sys, python.peers, torch, transformers
torch.manual_seed(0)
config = transformers.BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
                                 max_position_embeddings=8)
transformers.BertModel(config).save_pretrained(sys.argv[1])
"""
PROTOCOL = b"\x80\x02"


class Weights(Models):
    environment = {"PRELOAD": "python.peers transformers.models.bert.modeling_bert", "PYTHONPATH": str(EXAMPLES)}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bert = cls.home / "bert"
        subprocess.run([sys.executable, "-c", MAKE_BERT, cls.bert], check=True, env=cls.env, stderr=subprocess.DEVNULL)

    def model(self, language, name, data):
        """A folder whose weights are `data`, or another file of them; ours with the code of EvilModel, theirs a BERT."""
        folder = self.root / f"{name.replace(' ', '-')}-{language}"
        if language == "python":
            shutil.copytree(self.bert, folder)
            (folder / "model.safetensors").unlink()
        else:
            folder.mkdir()
            for path, text in self.files().items():
                (folder / path).write_text(text)
        for file, content in data.items():
            (folder / file).write_bytes(content)
        return folder

    def canary_of(self, language):
        return f"{self.canary}-{language}"

    def tried(self, attack, case, make):
        """`make` gives the files for a language. The code beside ours is trusted, so that the weights are read."""
        theirs = self.transformers(self.model("python", case, make("python")), trust_remote_code=False, auto="AutoModel")
        folder = self.model("cpp", case, make("cpp"))
        done = self.predict(folder)
        self.assertFalse(os.path.exists(self.canary_of("weights")))
        self.ran("cpp")
        ours = {0: "loaded", 5: "refused (bad data)"}.get(done.returncode, f"exit {done.returncode}")
        record(attack, case, ours, theirs)
        self.assertEqual(done.returncode, 5, f"{attack} {case}: {done.stderr}")
        self.assertRegex(done.stderr.splitlines()[-1], "^pretrained: .*pytorch_model.bin: ")
        self.assertLess(len(done.stderr), 5000)

    @staticmethod
    def archive(program, compression=zipfile.ZIP_STORED, **more):
        """pytorch_model.bin as torch.save writes it, with this pickle."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, content in {"data.pkl": program, "byteorder": b"little", "version": b"3\n", "data/0": bytes(64)}.items():
                archive.writestr("model/" + name, content)
            for name, content in more.items():
                archive.writestr("model/data/" + name.lstrip("_"), content)
        return {"pytorch_model.bin": file.getvalue()}

    def call(self, module, name, argument):
        """The pickle of {"a.weight": module.name(argument)}"""
        text = argument.encode()
        return PROTOCOL + b"}X\x08\0\0\0a.weight" + f"c{module}\n{name}\n".encode() + b"X" + struct.pack("<I", len(text)) + text + \
            b"\x85Rs."

    def test_s1_pickles_that_call_functions(self):
        for module, name, argument in ("os", "system", "touch {}"), ("posix", "system", "touch {}"), ("builtins", "exec", "open('{}', 'w')"), \
                ("builtins", "eval", "open('{}', 'w')"), ("subprocess", "getoutput", "touch {}"), ("torch.hub", "load_state_dict_from_url", "{}"), \
                ("pydoc", "pipepager", "touch {}"), ("numpy.testing._private.utils", "runstring", "open('{}', 'w')"):
            self.tried("S1", f"{module}.{name}", lambda language: self.archive(self.call(module, name, argument.format(self.canary_of(language)))))

    def test_s1_pickles_that_take_a_way_around(self):
        class Reduced:
            def __init__(self, path):
                self.path = path

            def __reduce__(self):
                return os.system, (f"touch {self.path}",)

        touch = lambda language: f"touch {self.canary_of(language)}"
        cases = {
            "a reduce of protocol 4": lambda language: self.archive(pickle.dumps({"a.weight": Reduced(self.canary_of(language))}, 4)),
            "no archive": lambda language: {"pytorch_model.bin": self.call("os", "system", touch(language))},
            "a name in two words": lambda language: self.archive(b"\x80\x04}\x8c\x08a.weight\x8c\x02os\x8c\x06system\x93\x8c" + bytes(
                [len(touch(language))]) + touch(language).encode() + b"\x85Rs."),
            "an object's __setstate__": lambda language: self.archive(PROTOCOL + b"}X\x08\0\0\0a.weightctorch._utils\n_rebuild_tensor_v2\n)R" +
                                                                      b"}X\x0c\0\0\0__setstate__cos\nsystem\nsbs."),
            "a getattr from builtins": lambda language: self.archive(self.call("builtins", "getattr", "os")),
        }
        for case, make in cases.items():
            self.tried("S1", case, make)

    def test_s15_archives_that_inflate(self):
        program = PROTOCOL + b"}."
        self.tried("S15", "weights that inflate a thousandfold", lambda _: self.archive(program, zipfile.ZIP_DEFLATED, _1=bytes(256 << 20)))
        self.tried("S15", "a pickle that inflates a thousandfold", lambda _: self.archive(
            PROTOCOL + b"}" + b"(l0" * (4 << 20) + b".", zipfile.ZIP_DEFLATED))

    def test_s5_indexes_that_lead_out(self):
        safetensors = (self.bert / "model.safetensors").read_bytes()
        shutil.copy(self.bert / "model.safetensors", self.root / "outside.safetensors")
        for name in "../outside.safetensors", str(self.root / "outside.safetensors"), "a/../../outside.safetensors", "a\\b.safetensors", \
                "link.safetensors":
            def make(language):
                index = {"metadata": {"total_size": 1}, "weight_map": {"a.weight": name}}
                return {"model.safetensors.index.json": json.dumps(index).encode()}

            theirs = self.model("python", name.replace("/", "_"), make("python"))
            ours = self.model("cpp", name.replace("/", "_"), make("cpp"))
            for folder in theirs, ours:
                if name.startswith("link"):
                    (folder / name).symlink_to(self.root / "outside.safetensors")
            self.answered("S5", name.replace(str(self.root), "/…"), ours, theirs)
        self.assertEqual((self.root / "outside.safetensors").read_bytes(), safetensors)

    def answered(self, attack, case, ours, theirs):
        self.refused(attack, case, self.run_command("inspect", ours), 5, self.transformers(theirs, None, "AutoModel"))

    def test_s6_indexes_that_lie(self):
        for case, weights in {"names that no file has": {"nope": "model-00001-of-00001.safetensors"},
                              "none of the file's names": {}}.items():
            def make(language):
                source = self.bert if language == "python" else self.write("honest")
                index = {"metadata": {"total_size": 24}, "weight_map": weights}
                return {"model-00001-of-00001.safetensors": (source / "model.safetensors").read_bytes(),
                        "model.safetensors.index.json": json.dumps(index).encode()}

            self.answered("S6", case, self.model("cpp", case, make("cpp")), self.model("python", case, make("python")))

    def test_s16_headers_that_lie(self):
        head = lambda text, tail=b"": len(text).to_bytes(8, "little") + text + tail
        entry = b'"a.weight":{"dtype":"%s","shape":[%s],"data_offsets":[%s]}'
        for case, data in {"a header of 4 EB": (1 << 62).to_bytes(8, "little") + b"{}",
                           "a shape that overflows": head(b"{" + entry % (b"F32", b"4294967296,4294967296", b"0,0") + b"}"),
                           "bytes beyond the end": head(b"{" + entry % (b"F32", b"2", b"0,8") + b"}", b"1234"),
                           "a hole": head(b"{" + entry % (b"F32", b"1", b"4,8") + b"}", b"12345678"),
                           "bytes behind the last tensor": head(b"{" + entry % (b"F32", b"1", b"0,4") + b"}", b"12345678"),
                           "a name twice": head(b"{" + entry % (b"F32", b"1", b"0,4") + b"," + entry % (b"F32", b"1", b"0,4") + b"}", b"1234"),
                           "an unknown dtype": head(b"{" + entry % (b"X9", b"1", b"0,4") + b"}", b"1234")}.items():
            make = lambda language: {"model.safetensors": data}
            self.answered("S16", case, self.model("cpp", case, make("cpp")), self.model("python", case, make("python")))


if __name__ == "__main__":
    unittest.main()
