"""Decoding, resize, crop and normalisation against live Pillow 13 and timm's own evaluation transform."""
import io, json, pathlib, subprocess, sys, tempfile, unittest

TOOL = sys.argv.pop(1)
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))
import python.peers  # noqa: F401
import numpy as np, skimage, sklearn, torch
from PIL import Image, ImageOps
from timm.data import create_transform
from torchvision import transforms

scratch = tempfile.TemporaryDirectory()
root = pathlib.Path(scratch.name)


def photographs():
    shipped = [p for p in pathlib.Path(skimage.__file__).parent.joinpath("data").rglob("*") if p.suffix in (".png", ".jpg", ".jpeg")]
    shipped += list(pathlib.Path(sklearn.__file__).parent.joinpath("datasets/images").glob("*.jpg"))
    found = sorted(p for p in shipped if min(Image.open(p).size) >= 32)
    sources = [Image.open(p).convert("RGB") for p in found]
    i = 0
    while len(found) < 20:  # the same photographs, cut, turned and written in other formats
        image = sources[i % len(sources)]
        w, h = image.size
        piece = image.crop((w // 10 * (i % 3), h // 8, w - w // 7, h - h // 9 * (i % 2))).rotate(90 * (i % 4), expand=True)
        path = root / f"photo{i}.{('jpg', 'webp', 'png')[i % 3]}"
        piece.save(path, **({"quality": 85} if i % 3 < 2 else {}))
        found.append(path)
        i += 1
    return found


def noise(w, h, mode, seed=0):
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 4}[mode]
    data = np.random.default_rng(seed).integers(0, 256, (h, w, channels), dtype=np.uint8)
    return Image.fromarray(data[..., 0] if channels == 1 else data, mode if mode != "LA" else None) if mode != "LA" else Image.merge(
        "LA", [Image.fromarray(data[..., 0]), Image.fromarray(data[..., 1])])


def odd_files():
    files = {}

    def save(name, image, **kwargs):
        image.save(root / name, **kwargs)
        files[name] = root / name

    for w, h in ((1, 1), (1, 500), (500, 1), (3000, 20), (17, 31)):
        save(f"size{w}x{h}.png", noise(w, h, "RGB"))
        save(f"size{w}x{h}.jpg", noise(w, h, "RGB"))
        save(f"size{w}x{h}.webp", noise(w, h, "RGB"))
    save("grey.png", noise(40, 30, "L")), save("grey.jpg", noise(40, 30, "L")), save("grey-alpha.png", noise(40, 30, "LA"))
    save("rgba.png", noise(40, 30, "RGBA")), save("rgba.webp", noise(40, 30, "RGBA")), save("lossless.webp", noise(40, 30, "RGBA"), lossless=True)
    save("cmyk.jpg", noise(64, 48, "CMYK")), save("one-bit.png", noise(40, 30, "L").convert("1"))
    save("palette.png", noise(40, 30, "RGB").quantize(64)), save("palette4.png", noise(40, 30, "RGB").quantize(7))
    transparent = noise(40, 30, "RGB").quantize(16)
    save("palette-transparent.png", transparent, transparency=3)
    save("rgb-transparent.png", noise(40, 30, "RGB"), transparency=(1, 2, 3))
    grey16 = np.random.default_rng(1).integers(0, 65536, (30, 40), dtype=np.uint16)
    save("grey16.png", Image.fromarray(grey16))
    save("dark16.png", Image.fromarray((grey16 // 300).astype(np.uint16)))
    photo = Image.open(photographs()[0]).convert("RGB")
    for subsampling in (0, 1, 2):
        save(f"subsampling{subsampling}.jpg", photo, subsampling=subsampling)
    save("progressive.jpg", photo, progressive=True), save("low.jpg", photo, quality=5)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("jpg", "png", "webp"):
            save(f"exif{orientation}.{suffix}", photo.crop((0, 0, 61, 37)), exif=exif)
    save("moving.webp", noise(30, 20, "RGB"), save_all=True, append_images=[noise(30, 20, "RGB", 5)], duration=100)
    return files


def run(*argv):
    return subprocess.run([TOOL, *map(str, argv)], capture_output=True, text=True)


def read(path):
    data = path.read_bytes()
    head, pixels = data.split(b"\n", 1)
    w, h = map(int, head.split())
    return np.frombuffer(pixels, np.uint8).reshape(h, w, 3)


class ImageProcessor(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.photos = photographs()
        cls.odd = odd_files()

    def test_decoding_is_pillows(self):
        for path in [*self.photos, *self.odd.values()]:
            with self.subTest(path.name):
                done = run("decode", path, root / "out")
                self.assertEqual(done.returncode, 0, done.stderr)
                theirs = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
                ours = read(root / "out")
                self.assertEqual(ours.shape, theirs.shape)
                self.assertEqual(int(np.abs(ours.astype(int) - theirs).max()), 0)

    def test_timms_evaluation_transform(self):
        self.assertGreaterEqual(len(self.photos), 20)
        settings = [(224, 0.875, "bilinear"), (224, 0.95, "bicubic"), (288, 1.0, "bicubic"), (160, 0.95, "bicubic")]
        for path in [*self.photos, *(p for n, p in self.odd.items() if n.startswith(("size1x", "size17", "grey.", "cmyk", "rgba")))]:
            for size, crop_pct, interpolation in settings:
                with self.subTest(path.name, size=size, crop_pct=crop_pct):
                    transform = create_transform((3, size, size), interpolation=interpolation, crop_pct=crop_pct)
                    cfg = {"input_size": [3, size, size], "crop_pct": crop_pct, "interpolation": interpolation,
                           "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
                    done = run("timm", json.dumps(cfg), path, root / "u8", root / "f32")
                    image = Image.open(path).convert("RGB")
                    if done.returncode == 5 and max(image.size) / min(image.size) > 200:
                        continue  # a line of pixels scaled beyond what is decoded: a typed error
                    self.assertEqual(done.returncode, 0, done.stderr)
                    before = transforms.Compose([t for t in transform.transforms if "Tensor" not in type(t).__name__ and "Normalize" not in type(t).__name__])
                    self.assertEqual(int(np.abs(read(root / "u8").astype(int) - np.asarray(before(image))).max()), 0)
                    ours = torch.frombuffer(bytearray((root / "f32").read_bytes()), dtype=torch.float32).view(3, size, size)
                    self.assertLessEqual((ours - transform(image)).abs().max().item(), 1e-6)

    def test_hostile_files_are_typed_errors(self):
        for name in ("size17x31.jpg", "size17x31.png", "size17x31.webp", "progressive.jpg"):
            data = self.odd[name].read_bytes()
            for cut in range(0, len(data) - 2, max(1, len(data) // 25)):
                (root / "cut").write_bytes(data[:cut])
                done = run("decode", root / "cut", root / "out")
                self.assertIn(done.returncode, (0, 5), f"{name} cut at {cut}: {done.stderr}")
                self.assertEqual(done.returncode, 5, f"{name} cut at {cut} of {len(data)}")
                self.assertEqual(done.stderr.count("\n"), 1)
        bomb = self.odd["size17x31.png"].read_bytes()
        import struct, zlib
        header = struct.pack(">IIBBBBB", 200000, 200000, 8, 2, 0, 0, 0)
        (root / "bomb.png").write_bytes(bomb[:8] + struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + bomb[33:])
        for name, text in (("bomb.png", "pixels"), ("gif", "not a JPEG, PNG or WebP")):
            if name == "gif":
                noise(5, 5, "L").save(root / "gif", format="GIF")
            done = run("decode", root / name, root / "out")
            self.assertEqual(done.returncode, 5)
            self.assertIn(text, done.stderr)
        self.assertEqual(run("decode", root / "nothing", root / "out").returncode, 3)

    def test_preprocessor_configs(self):
        folder = root / "model"
        folder.mkdir()
        path = self.photos[0]
        image = Image.open(path).convert("RGB")
        mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
        base = {"image_mean": mean, "image_std": std, "resample": 2}
        to_float = [transforms.ToTensor(), transforms.Normalize(mean, std)]
        cases = [({"size": {"height": 60, "width": 80}}, [transforms.Resize((60, 80))], (60, 80)),
                 ({"size": 50}, [transforms.Resize((50, 50))], (50, 50)),
                 ({"size": {"shortest_edge": 70}, "crop_size": {"height": 64, "width": 48}}, [transforms.Resize(70), transforms.CenterCrop((64, 48))], (64, 48)),
                 ({"size": {"shortest_edge": 64}, "crop_pct": 0.875}, [transforms.Resize(73), transforms.CenterCrop(64)], (64, 64)),
                 ({"size": {"shortest_edge": 30}, "crop_size": 41}, [transforms.Resize(30), transforms.CenterCrop(41)], (41, 41))]
        for config, steps, shape in cases:
            (folder / "preprocessor_config.json").write_text(json.dumps({**base, **config}))
            done = run("folder", folder, path, root / "f32")
            self.assertEqual(done.returncode, 0, done.stderr)
            ours = torch.frombuffer(bytearray((root / "f32").read_bytes()), dtype=torch.float32).view(3, *shape)
            self.assertLessEqual((ours - transforms.Compose(steps + to_float)(image)).abs().max().item(), 1e-6, config)
        for config, text in (({"size": "x"}, "field 'size': expected"), ({"image_mean": [1, 2]}, "field 'image_mean': expected a list of 3 numbers"),
                             ({"resample": 9}, "field 'resample'"), ({"size": {"shortest_edge": -1}}, "size.shortest_edge"), ({"do_resize": 1}, "a boolean")):
            (folder / "preprocessor_config.json").write_text(json.dumps({**base, **config}))
            done = run("folder", folder, path, root / "f32")
            self.assertEqual(done.returncode, 5)
            self.assertIn(text, done.stderr)


if __name__ == "__main__":
    unittest.main()
