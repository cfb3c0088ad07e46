"""config.json is byte for byte what live Transformers writes: as a round trip, after changing a field, from C++ structs.

The version keys are the only difference allowed.
"""
import json, os, pathlib, subprocess, sys, tempfile, unittest

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))
import python.peers
import transformers
from transformers import (AlbertConfig, BartConfig, BeitConfig, BertConfig, BlipConfig, CLIPConfig, ConvNextConfig, DeiTConfig,
                          DistilBertConfig, ElectraConfig, GPT2Config, GPTNeoXConfig, LlamaConfig, MistralConfig, MobileBertConfig,
                          MobileNetV2Config, OPTConfig, PretrainedConfig, Qwen2Config, RegNetConfig, ResNetConfig, RobertaConfig,
                          SegformerConfig, SwinConfig, T5Config, ViTConfig, Wav2Vec2Config, WhisperConfig, XLMRobertaConfig)

TOOL = sys.argv.pop(1)
from python.configuration_resnet import ResnetConfig


class Custom(PretrainedConfig):
    model_type = "custom"

    def __init__(self, **kwargs):
        for key in [k for k in kwargs if k not in ("num_labels", "id2label", "label2id")]:
            setattr(self, key, kwargs.pop(key))
        super().__init__(**kwargs)


def labels(n):
    return {"id2label": {i: f"class {i}" for i in range(n)}, "label2id": {f"class {i}": i for i in range(n)}}


inf, nan = float("inf"), float("nan")
CORPUS = {
    "resnet default": lambda: ResnetConfig(),
    "resnet50d": lambda: ResnetConfig(block_type="bottleneck", stem_width=32, stem_type="deep", avg_down=True),
    "resnet basic": lambda: ResnetConfig(block_type="basic", layers=[2, 2, 2, 2], num_classes=10, input_channels=1),
    "2 labels": lambda: ResnetConfig(num_labels=2),
    "2 named labels": lambda: ResnetConfig(**labels(2)),
    "3 labels": lambda: ResnetConfig(num_labels=3),
    "1 label": lambda: ResnetConfig(num_labels=1),
    "12 labels": lambda: ResnetConfig(**labels(12)),
    "1000 labels": lambda: ResnetConfig(**labels(1000)),
    "id2label only": lambda: ResnetConfig(id2label={0: "cat", 1: "dog", 10: "emu"}),
    "unknown keys": lambda: ResnetConfig(foo="bar", nested={"b": [1, {"c": None}], "a": {}}, empty=[]),
    "problem type": lambda: ResnetConfig(problem_type="regression", num_labels=1),
    "flags": lambda: ResnetConfig(output_hidden_states=True, return_dict=False, is_encoder_decoder=True),
    "architectures": lambda: ResnetConfig(architectures=["ResnetModelForImageClassification"]),
    "dtype": lambda: ResnetConfig(dtype="bfloat16"),
    "infinities": lambda: Custom(a=inf, b=-inf, c=nan, d=[inf, {"x": nan}]),
    "floats": lambda: Custom(a=1e16, b=1e-5, c=0.1, d=-0.0, e=1e15, f=123456789.125, g=5e-324, h=1.7976931348623157e308,
                             i=4.9999999999999996e22, j=1e22, k=1.0, l=0.0001),
    "integers": lambda: Custom(a=2**63 - 1, b=-(2**63), c=2**64, d=10**40, e=-(10**30), f=0),
    "unicode": lambda: Custom(a="한국어", b="é ü", c="😀", d="a\tb\n\\ \" / </script>", e="\u2028\x7f\x00", **{"ключ": "значение"}),
    "nesting": lambda: Custom(a={"b": {"c": {"d": [[[], [1]], [[2.5, None, True]]]}}}, e=[], f={}, g=()),
    "tuples": lambda: Custom(sizes=(224, 224), pairs=[(1, 2), (3, 4)]),
    "booleans": lambda: Custom(a=True, b=False, c=None),
    "key order": lambda: Custom(Z=1, a=2, _b=3, B=4, a1=5, a_1=6, **{"a.b": 7, "a-b": 8}),
    "long list": lambda: Custom(values=[i * 0.1 for i in range(500)]),
    "base": lambda: PretrainedConfig(),
    **{cls.__name__: cls for cls in (AlbertConfig, BartConfig, BeitConfig, BertConfig, BlipConfig, CLIPConfig, ConvNextConfig,
                                     DeiTConfig, DistilBertConfig, ElectraConfig, GPT2Config, GPTNeoXConfig, LlamaConfig,
                                     MistralConfig, MobileBertConfig, MobileNetV2Config, OPTConfig, Qwen2Config, RegNetConfig,
                                     ResNetConfig, RobertaConfig, SegformerConfig, SwinConfig, T5Config, ViTConfig,
                                     Wav2Vec2Config, WhisperConfig, XLMRobertaConfig)},
    "ViT 12 labels": lambda: ViTConfig(**labels(12)),
    "Llama rope": lambda: LlamaConfig(num_key_value_heads=2, rms_norm_eps=1e-06),
}


def without_versions(text):
    return "\n".join(line for line in text.split("\n") if "_version\":" not in line).replace(",\n}", "\n}")


class Config(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def tool(self, *argv):
        done = subprocess.run([TOOL, *map(str, argv)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def assert_same(self, python, ours):
        self.assertEqual(without_versions((python / "config.json").read_text()), without_versions((ours / "config.json").read_text()))

    def test_round_trip(self):
        self.assertGreaterEqual(len(CORPUS), 40)
        self.assertTrue(transformers.__version__.startswith("5.23."))
        for name, make in CORPUS.items():
            with self.subTest(name):
                python, ours = self.root / name, self.root / (name + " ours")
                make().save_pretrained(python)
                self.tool("generic", python, ours)
                self.assert_same(python, ours)
                if isinstance(make(), ResnetConfig):
                    self.tool("resnet", python, ours)
                    self.assert_same(python, ours)
                    self.assertEqual(ResnetConfig.from_pretrained(ours).to_dict() | {"transformers_version": 0, "pretrained_version": 0},
                                     ResnetConfig.from_pretrained(python).to_dict() | {"transformers_version": 0, "pretrained_version": 0})

    def test_one_field_changed(self):
        changes = {"num_classes": 7, "layers": [1, 2, 3, 4], "block_type": "basic", "avg_down": True, "num_labels": 5, "foo": "x",
                   "problem_type": "regression", "output_hidden_states": True}
        for name in ("resnet default", "resnet50d", "12 labels", "unknown keys"):
            for key, value in changes.items():
                if key == "foo" and name != "unknown keys":
                    continue
                with self.subTest(name, key=key):
                    python, ours = self.root / f"{name} {key}", self.root / f"{name} {key} ours"
                    CORPUS[name]().save_pretrained(python)
                    self.tool("resnet", python, ours, json.dumps({key: value}))
                    config = ResnetConfig.from_pretrained(python)
                    setattr(config, key, value)
                    config.save_pretrained(python)
                    self.assert_same(python, ours)

    def test_from_structs(self):
        self.tool("structs", self.root / "ours")
        for name in ("resnet default", "resnet50d", "resnet basic", "3 labels", "12 labels", "1000 labels", "flags", "problem type",
                     "infinities", "unicode", "unknown keys"):
            with self.subTest(name):
                CORPUS[name]().save_pretrained(self.root / name)
                self.assert_same(self.root / name, self.root / "ours" / name)


if __name__ == "__main__":
    unittest.main()
