"""resize() is bit-equal to live Pillow 13 over sizes, filters and channel counts; bad input is a clear error."""
import random, subprocess, sys, unittest
from PIL import Image, __version__
TOOL = sys.argv.pop(1)
FILTERS = [Image.BILINEAR, Image.BICUBIC, Image.LANCZOS, Image.BOX, Image.HAMMING]

def run(sizes, data):
    return subprocess.run([TOOL], input=(" ".join(map(str, sizes)) + "\n").encode() + data, capture_output=True)

class Resize(unittest.TestCase):
    def test_bit_equal_to_pillow(self):
        self.assertEqual(__version__.split(".")[0], "13")
        rng = random.Random(0)
        sizes = [(500, 375, 298, 224), (40, 400, 39, 30), (1, 1, 7, 5), (64, 64, 64, 64), (30, 200, 60, 20)]
        sizes += [tuple(rng.randint(1, 150) for _ in range(4)) for _ in range(15)]
        for w, h, nw, nh in sizes:
            for mode, channels in (("L", 1), ("RGB", 3)):
                data = rng.randbytes(w * h * channels)
                for index, pil in enumerate(FILTERS):
                    with self.subTest(size=(w, h, nw, nh), mode=mode, filter=pil):
                        want = Image.frombytes(mode, (w, h), data).resize((nw, nh), pil).tobytes()
                        self.assertEqual(run((w, h, channels, nw, nh, index), data).stdout, want)

    def test_bad_input(self):
        for sizes, text in (((0, 1, 1, 1, 1, 0), b"width: expected 1..65535, got 0"),
                            ((2, 2, 3, 1, 1, 0), b"pixels: expected 12 bytes, got 1"),
                            ((1, 1, 1, 1, 1, 9), b"unknown interpolation")):
            result = run(sizes, b"x")
            self.assertEqual(result.returncode, 5)
            self.assertIn(text, result.stderr)

unittest.main()
