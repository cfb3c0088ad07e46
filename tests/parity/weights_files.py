"""safetensors, shards and old pickles against live Python: the same bytes out, the same tensors in, hostile files refused."""
import collections, io, json, os, pathlib, pickle, random, struct, subprocess, sys, tempfile, unittest, zipfile

TOOL = sys.argv.pop(1)
import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

scratch = tempfile.TemporaryDirectory()
root = pathlib.Path(scratch.name)
DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.float16, torch.bfloat16, torch.int32, torch.uint32,
          torch.float32, torch.float64, torch.int64, torch.uint64, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2]


def run(*argv):
    return subprocess.run([TOOL, *map(str, argv)], capture_output=True, text=True)


def tensor(dtype, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randint(0, 2, shape, generator=generator)
    return data.to(dtype) if dtype.is_complex or not dtype.is_floating_point else torch.randn(shape, generator=generator).to(dtype)


class Safetensors(unittest.TestCase):
    def test_bytes_are_pythons(self):
        sets = [{f"t{i}.{d}": tensor(d, (2, 3), i) for i, d in enumerate(DTYPES)}, {"only": tensor(torch.float32, ())}, {},
                {"empty": torch.empty(0, 3), "한 국": tensor(torch.float32, (1,)), 'quote"\\back\n\t\x01é😀': tensor(torch.int64, (2,))},
                {f"layer.{i}.weight": tensor(random.Random(i).choice(DTYPES), (i % 5, 7), i) for i in range(120)}]
        for i, tensors in enumerate(sets):
            with self.subTest(i):
                save_file(tensors, root / "in.safetensors", metadata={"format": "pt"})
                done = run("copy", root / "in.safetensors", root / "out.safetensors")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual((root / "out.safetensors").read_bytes(), (root / "in.safetensors").read_bytes())

    def test_what_python_refuses_we_refuse(self):
        save_file({"a": torch.ones(3, 2), "b": torch.ones(4, dtype=torch.int64), "c": torch.ones((), dtype=torch.float16)}, root / "good.safetensors")
        good, rng, refused = (root / "good.safetensors").read_bytes(), random.Random(0), 0
        header = int.from_bytes(good[:8], "little")
        for i in range(300):
            data = bytearray(good)
            kind = i % 3
            if kind == 0:
                data[rng.randrange(8 + header)] = rng.randrange(256)
            elif kind == 1:
                data = data[:rng.randrange(len(data))]
            else:
                data = data[: 8 + header] + rng.randbytes(rng.randrange(100))
            (root / "bad.safetensors").write_bytes(data)
            try:
                with safe_open(root / "bad.safetensors", "pt") as f:
                    for key in f.keys():
                        f.get_tensor(key)
                accepted = True
            except (SafetensorError, Exception):
                accepted = False
            done = run("copy", root / "bad.safetensors", root / "out.safetensors") if not accepted or i < 60 else None
            if not accepted:
                refused += 1
                self.assertEqual(done.returncode, 5, (i, done.stderr))
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            elif done:
                self.assertIn(done.returncode, (0, 5), (i, done.stderr))
        self.assertGreater(refused, 100)

    def test_shards_are_pythons(self):
        tensors = {f"layer{i}.weight": tensor(torch.float32, (10, 10 + i), i) for i in range(12)}
        save_file(tensors, root / "in.safetensors")
        ordered = load_file(root / "in.safetensors")
        for limit in ("1KB", "2000", "1500", "1GB"):
            ours, theirs = root / f"ours{limit}", root / f"theirs{limit}"
            done = run("shard", root / "in.safetensors", ours, limit, "")
            self.assertEqual(done.returncode, 0, done.stderr)
            theirs.mkdir()
            by_offset = json.loads((root / "in.safetensors").read_bytes()[8:].split(b"}}")[0] + b"}}")
            order = sorted((k for k in by_offset if k != "__metadata__"), key=lambda k: by_offset[k]["data_offsets"])
            save_torch_state_dict({k: ordered[k] for k in order}, theirs, max_shard_size=int(limit) if limit.isdigit() else limit)
            self.assertEqual({p.name for p in ours.iterdir()}, {p.name for p in theirs.iterdir()})
            for path in ours.glob("*.safetensors"):
                self.assertEqual(path.read_bytes(), (theirs / path.name).read_bytes())
            index = theirs / "model.safetensors.index.json"
            if index.exists():
                self.assertEqual(json.loads((ours / index.name).read_text())["weight_map"], json.loads(index.read_text())["weight_map"])
            done = run("merge", theirs, root / "merged.safetensors")
            self.assertEqual(done.returncode, 0, done.stderr)
            for key, value in load_file(root / "merged.safetensors").items():
                self.assertTrue(torch.equal(value, tensors[key]))


def write_bin(path, code, storage=b"\0" * 64):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/data/0", storage)
        archive.writestr("archive/version", "3\n")


class Call:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


class Stateful:
    def __setstate__(self, state):
        os.system("true")


class Pickles(unittest.TestCase):
    def test_what_torch_saved_is_read(self):
        base = torch.arange(24, dtype=torch.float32).view(4, 6)
        cases = [{f"{d}": tensor(d, (3, 2)) for d in DTYPES if d not in (torch.uint16, torch.uint32, torch.uint64) and "float8" not in str(d)},
                 {"t": base.t(), "slice": base[1:3, ::2], "shared": base, "scalar": torch.tensor(3.5), "empty": torch.empty(0, 2)},
                 {"p": torch.nn.Parameter(torch.ones(2))}, collections.OrderedDict(a=torch.ones(1)), torch.nn.BatchNorm2d(3).state_dict(),
                 {"state_dict": {"w": torch.ones(2, 2)}, "epoch": 3}]
        for i, state in enumerate(cases):
            for protocol in (2, 4):
                with self.subTest(i, protocol=protocol):
                    torch.save(state, root / "x.bin", pickle_protocol=protocol)
                    done = run("copy", root / "x.bin", root / "out.safetensors")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    ours = load_file(root / "out.safetensors")
                    wanted = state.get("state_dict", state)
                    self.assertEqual(set(ours), set(wanted))
                    for key, value in wanted.items():
                        self.assertEqual(ours[key].dtype, value.dtype)
                        self.assertTrue(torch.equal(ours[key], value.detach()), key)

    def refuse(self, name, text):
        done = run("copy", root / name, root / "out.safetensors")
        self.assertEqual(done.returncode, 5, f"{text}: {done.stdout}{done.stderr}")
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.last = done.stderr

    def test_hostile_pickles_are_refused_by_name(self):
        import builtins, functools, importlib, shutil, subprocess as sub
        dumped = [(Call(os.system, "true"), "posix.system"), (Call(eval, "1"), "builtins.eval"), (Call(exec, "1"), "builtins.exec"),
                  (Call(sub.Popen, ["true"]), "subprocess.Popen"), (Call(getattr, 1, "x"), "builtins.getattr"), (Call(open, "/etc/passwd"), "io.open"),
                  (Call(importlib.import_module, "os"), "importlib.import_module"), (Call(shutil.rmtree, "/nowhere"), "shutil.rmtree"),
                  (Call(functools.partial, print), "functools.partial"), (Call(torch.load, "x"), "torch.serialization.load"),
                  (Call(torch.hub.load, "x", "y"), "torch.hub.load"), (Call(builtins.__import__, "os"), "builtins.__import__"), (Stateful(), "Stateful"),
                  (Call(bytearray, 10**12), "builtins.bytearray"), (Call(torch.jit.load, "x"), "torch.jit._serialization.load"),
                  (Call(pickle.loads, b"x"), "_pickle.loads"), (collections.Counter("a"), "collections.Counter"), ({1, 2}, "")]
        for value, text in dumped:
            for protocol in (2, 4):
                for wrapped in ({"w": value}, {"w": [{"x": value}]}):
                    write_bin(root / "evil.bin", pickle.dumps(wrapped, protocol=protocol))
                    self.refuse("evil.bin", text if text == "" else "refuses the")
                    self.assertIn(text.rsplit(".", 1)[-1] + "'" if text else "", (self.last or "") + ("Stateful'" if text == "Stateful" else ""))
        raw = [(b"\x80\x02cposix\nsystem\n.", "posix.system"), (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
               (b"(S'true'\niposix\nsystem\n.", ""), (b"(iposix\nsystem\n.", "posix.system"), (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "OrderedDict"),
               (b"\x80\x02(ccollections\nOrderedDict\no.", "OrderedDict"), (b"\x80\x02\x82\x01.", "EXT"), (b"\x80\x02}}b0ccollections\nOrderedDict\n}b.", "BUILD"),
               (b"\x80\x02h\x05.", "not stored"), (b"\x80\x02" + b"(" * 2_000_000 + b".", "too deep"), (b"\x80\x02" + b"]" * 100 + b"e.", "mark"),
               (b"\x80\x02\x8b\xff\xff\xff\x7f.", "refuses the pickle instruction"), (b"\x80\x02X\xff\xff\xff\xff.", "truncated"), (b".", "empty stack"), (b"", "truncated"),
               (b"\x80\x02}K\x01Q.", "no storage"), (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "too few"), (b"\x80\x02K\x01.", "dictionary"),
               (b"\x80\x02}X\x01\0\0\0aK\x01s.", "is no tensor"), (b"\x80\x02\x95" + b"\0" * 3, "truncated")]
        for code, text in raw:
            write_bin(root / "evil.bin", code)
            self.refuse("evil.bin", text)
        self.assertGreaterEqual(len(dumped) + len(raw), 20)

    def test_tensors_stay_inside_their_storage(self):
        def code(offset, size, stride, key="0", numel=16):
            class Pickler(pickle._Pickler):
                def persistent_id(self, value):
                    return ("storage", torch.FloatStorage, key, "cpu", numel) if value == "THE STORAGE" else None

            out = io.BytesIO()
            Pickler(out, 2).dump({"w": Call(torch._utils._rebuild_tensor_v2, "THE STORAGE", offset, size, stride, False, collections.OrderedDict())})
            return out.getvalue()

        write_bin(root / "ok.bin", code(0, (4, 4), (4, 1)))
        done = run("copy", root / "ok.bin", root / "out.safetensors")
        self.assertEqual(done.returncode, 0, done.stderr)
        for arguments in ((1, (4, 4), (4, 1)), (0, (4, 5), (4, 1)), (0, (2,), (16,)), (0, (2**62, 4), (2**62, 1)), (17, (0,), (1,)),
                          (2**62, (1,), (1,)), (0, (4, 4), (4, 1), "1"), (-1, (1,), (1,)), (0, (-1,), (1,)), (0, (1,), (-1,)), (0, (4,), (4, 1)), (0, (2**40,), (1,))):
            write_bin(root / "evil.bin", code(*arguments))
            self.refuse("evil.bin", "")

    def test_damaged_archives(self):
        torch.save({"a": torch.ones(3)}, root / "good.bin")
        good, rng = (root / "good.bin").read_bytes(), random.Random(1)
        for i in range(80):
            data = bytearray(good)
            if i % 2:
                data = data[: rng.randrange(len(data))]
            else:
                for _ in range(3):
                    data[rng.randrange(len(data))] = rng.randrange(256)
            (root / "bad.bin").write_bytes(data)
            done = run("copy", root / "bad.bin", root / "out.safetensors")
            self.assertIn(done.returncode, (0, 5), done.stderr)
        torch.save({"a": torch.ones(3)}, root / "old.bin", _use_new_zipfile_serialization=False)
        self.refuse("old.bin", "older than PyTorch 1.6")
        with zipfile.ZipFile(root / "packed.bin", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({}) * 100)
        self.refuse("packed.bin", "compressed")


if __name__ == "__main__":
    unittest.main()
