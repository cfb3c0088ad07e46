#include "pretrained/safetensors/pickle.h"

#include <gtest/gtest.h>

#include "pretrained/base/error.h"
#include "pretrained/safetensors/zip.h"

namespace {

using namespace pretrained;
namespace st = pretrained::safetensors;
using std::string_literals::operator""s;

std::string little(uint64_t value, int size) {
  std::string out;
  for (int i = 0; i < size; ++i) out += i < 8 ? char(value >> (8 * i) & 0xFF) : 0;
  return out;
}

struct Entry {
  std::string name, bytes;
  int method = 0;
  bool zip64 = false;
};

// A zip archive of stored entries; `zip64` gives an entry's numbers in its extra field.
std::string zip_of(const std::vector<Entry>& entries, bool directory64 = false) {
  std::string out, directory;
  for (auto& entry : entries) {
    uint64_t at = out.size(), size = entry.bytes.size();
    std::string extra;
    if (entry.zip64)
      extra = little(1, 2) + little(24, 2) + little(size, 8) + little(size, 8) + little(at, 8);
    uint64_t said = entry.zip64 ? 0xFFFFFFFF : size, said_at = entry.zip64 ? 0xFFFFFFFF : at;
    std::string common = little(0, 2) + little(uint64_t(entry.method), 2) + little(0, 8) +
                         little(said, 4) + little(said, 4) + little(entry.name.size(), 2);
    out += "PK\3\4" + little(20, 2) + common + little(0, 2) + entry.name + entry.bytes;
    directory += "PK\1\2" + little(20, 2) + little(20, 2) + common + little(extra.size(), 2) +
                 little(0, 10) + little(said_at, 4) + entry.name + extra;
  }
  uint64_t at = out.size(), count = entries.size();
  out += directory;
  if (directory64) {
    out += "PK\6\6" + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8) +
           little(count, 8) + little(count, 8) + little(directory.size(), 8) + little(at, 8);
    out += "PK\6\7" + little(0, 4) + little(at + directory.size(), 8) + little(1, 4);
  }
  out += "PK\5\6" + little(0, 4) + little(directory64 ? 0xFFFF : count, 2) +
         little(directory64 ? 0xFFFF : count, 2) + little(directory.size(), 4) +
         little(directory64 ? 0xFFFFFFFF : at, 4) + little(0, 2);
  return out;
}

std::string checkpoint(const std::string& code, size_t storage = 64) {
  return zip_of({{"archive/data.pkl", code}, {"archive/data/0", std::string(storage, '\0')}});
}

std::string text(const std::string& value) { return "X" + little(value.size(), 4) + value; }
std::string integer(int64_t value) { return "\x8a\x08"s + little(uint64_t(value), 8); }
std::string numbers(const std::vector<int64_t>& values) {
  std::string out = "(";
  for (auto value : values) out += integer(value);
  return out + "t";
}
// What torch.save writes for a float tensor in storage `key`.
std::string tensor(int64_t offset, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& strides, const std::string& key = "0") {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" +
         text(key) + text("cpu") + "K\x10tQ" + integer(offset) + numbers(shape) + numbers(strides) +
         "\x89" + "ccollections\nOrderedDict\n)RtR";
}
std::string dict(const std::string& name, const std::string& value) {
  return "\x80\x02}" + text(name) + value + "s.";
}

std::string error_of(const std::string& file) {
  try {
    st::read_pickle(file, "pytorch_model.bin");
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no error";
}
#define EXPECT_REFUSED(file, what)                        \
  EXPECT_NE(error_of(file).find(what), std::string::npos) \
      << "expected " << (what) << ", got " << error_of(file)

TEST(Pickle, PlacesATensorInTheFile) {
  std::string file = checkpoint(dict("w", tensor(2, {2, 3}, {1, 4})));
  auto tensors = st::read_pickle(file, "x");
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].dtype, st::Dtype::F32);
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors[0].strides, (std::vector<int64_t>{1, 4}));
  EXPECT_EQ(tensors[0].begin, file.find("archive/data/0") + 14 + 8);
}

TEST(Pickle, FindsANestedStateDict) {
  std::string nested = "\x80\x02}(" + text("epoch") + "K\x03" + text("dtype") +
                       "ctorch\nfloat32\n" + text("state_dict") + "}" + text("w") +
                       tensor(0, {}, {}) + "su.";
  EXPECT_EQ(st::read_pickle(checkpoint(nested), "x").at(0).name, "w");
}

TEST(Pickle, KeepsTheOrderAndTheLastOfTwins) {
  std::string code = "\x80\x02}(" + text("z") + tensor(0, {}, {}) + text("a") + tensor(0, {}, {}) +
                     text("z") + tensor(1, {}, {}) + "u.";
  std::string file = checkpoint(code);
  auto tensors = st::read_pickle(file, "x");
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "z");
  EXPECT_EQ(tensors[0].begin, tensors[1].begin + 4);
}

TEST(Pickle, RefusesGlobalsByName) {
  EXPECT_EQ(error_of(checkpoint("\x80\x02"s + "cos\nsystem\n" + text("true") + "\x85R.")),
            "pytorch_model.bin: refuses the global 'os.system': only tensors and containers are "
            "read from old checkpoints");
  EXPECT_REFUSED(checkpoint(text("builtins") + text("eval") + "\x93."), "'builtins.eval'");
  EXPECT_REFUSED(checkpoint("(iposix\nsystem\n."), "'posix.system'");
  EXPECT_REFUSED(checkpoint("ctorch.storage\n_load_from_bytes\n."),
                 "'torch.storage._load_from_bytes'");
  EXPECT_REFUSED(checkpoint("cev\x1b[31m\nil\n."), "'ev\\x1b[31m.il'");
  EXPECT_REFUSED(checkpoint("c" + std::string(2000, 'x') + "\ny\n."), "name of 2000 bytes");
  EXPECT_REFUSED(checkpoint(text(std::string(2000, 'x')) + text("y") + "\x93."), "name of 1 bytes");
  EXPECT_REFUSED(checkpoint("K\x01K\x02\x93."), "no string");
}

TEST(Pickle, ConstructsNothing) {
  std::string known = "ccollections\nOrderedDict\n";
  EXPECT_REFUSED(checkpoint(known + ")\x81."), "NEWOBJ of 'collections.OrderedDict'");
  EXPECT_REFUSED(checkpoint(known + ")}\x92."), "NEWOBJ_EX of");
  EXPECT_REFUSED(checkpoint("(" + known + "o."), "OBJ of");
  EXPECT_REFUSED(checkpoint("\x82\x01."s), "EXT");
  EXPECT_REFUSED(checkpoint(known + "}b."), "BUILD of");
  EXPECT_REFUSED(checkpoint("ctorch\nfloat32\n)R."), "refuses to call 'torch.float32'");
  EXPECT_REFUSED(checkpoint("ctorch\nFloatStorage\n)R."), "refuses to call 'torch.FloatStorage'");
  EXPECT_REFUSED(checkpoint("K\x01)R."), "no function");
  EXPECT_REFUSED(checkpoint(known + "]\x85R."), "OrderedDict with arguments");
  EXPECT_REFUSED(checkpoint("Ptext\n."), "instruction 0x50");
  EXPECT_REFUSED(checkpoint("\x8b\xff\xff\xff\x7f."), "instruction 0x8b");
}

TEST(Pickle, HasLimits) {
  EXPECT_REFUSED(checkpoint(std::string(1'500'000, '(')), "stack is too deep");
  EXPECT_REFUSED(checkpoint("]" + std::string(900'000, '\x85') + "."), "dictionary of tensors");
  std::string many;
  for (int i = 0; i < 4'100'000; ++i) many += "N0";
  EXPECT_REFUSED(checkpoint(many), "too many values");
  EXPECT_REFUSED(checkpoint("Nr" + little(0xFFFFFFFF, 4) + "."), "memo is too large");
  EXPECT_REFUSED(checkpoint("h\x05."), "not stored");
  EXPECT_REFUSED(checkpoint("\x8a\x09" + std::string(9, '\1') + "."), "beyond 64 bits");
  EXPECT_REFUSED(checkpoint("X" + little(0xFFFFFFFF, 4) + "."), "truncated");
  EXPECT_REFUSED(checkpoint(""), "truncated");
  EXPECT_REFUSED(checkpoint("."), "empty stack");
  EXPECT_REFUSED(checkpoint("e."), "no mark");
  EXPECT_REFUSED(checkpoint("}u."), "no mark");
  EXPECT_REFUSED(checkpoint("}(Nu."), "no container");
}

// A long tuple that is passed to calls again and again must not be copied each time.
TEST(Pickle, IsLinearInItsSize) {
  std::string code = "ctorch._utils\n_rebuild_parameter\nq\1(";
  code += std::string(900'000, 'N') + "tq\2";
  for (int i = 0; i < 300'000; ++i) code += "h\1h\2R0";
  EXPECT_REFUSED(checkpoint(code + "."), "dictionary of tensors");
}

TEST(Pickle, ACycleIsNoTrap) {
  EXPECT_REFUSED(checkpoint("}q\1" + text("w") + "h\1s."), "entry 'w' is no tensor");
  EXPECT_REFUSED(checkpoint("}q\1" + text("state_dict") + "h\1s."),
                 "entry 'state_dict' is no tensor");
}

TEST(Pickle, TensorsStayInTheirStorage) {
  auto place = [](int64_t offset, std::vector<int64_t> shape, std::vector<int64_t> strides,
                  std::string key = "0") {
    return error_of(checkpoint(dict("w", tensor(offset, shape, strides, key))));
  };
  constexpr int64_t kHuge = int64_t(1) << 62;
  EXPECT_EQ(place(0, {16}, {1}), "no error");
  EXPECT_EQ(place(15, {}, {}), "no error");
  EXPECT_EQ(place(16, {0}, {1}), "no error");
  EXPECT_EQ(place(0, {1000}, {0}), "no error");
  for (auto& error : {place(1, {16}, {1}), place(16, {}, {}), place(17, {0}, {1}),
                      place(0, {2}, {16}), place(kHuge, {1}, {1}), place(0, {kHuge, 4}, {kHuge, 1}),
                      place(0, {2, 2}, {kHuge, kHuge}), place(0, {kHuge, kHuge}, {0, 0})})
    EXPECT_NE(error.find("tensor 'w': it reaches beyond its storage"), std::string::npos) << error;
  EXPECT_NE(place(0, {16}, {1}, "1").find("storage '1' is not in the file"), std::string::npos);
  EXPECT_NE(place(0, {16}, {1}, "../0").find("not in the file"), std::string::npos);
  EXPECT_NE(place(-1, {1}, {1}).find("no storage"), std::string::npos);
  EXPECT_NE(place(0, {-1}, {1}).find("no numbers"), std::string::npos);
  EXPECT_NE(place(0, {1}, {-1}).find("no numbers"), std::string::npos);
  EXPECT_NE(place(0, {1}, {}).find("1 dimensions and 0 strides"), std::string::npos);
  EXPECT_NE(place(0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1))
                .find("no tuple of at most 64"),
            std::string::npos);
}

TEST(Zip, ReadsZip64) {
  auto entries = st::read_zip(zip_of({{"a", "one"}, {"b", "three", 0, true}}, true), "x");
  EXPECT_EQ(entries.at("a").size, 3u);
  EXPECT_EQ(entries.at("b").size, 5u);
}

TEST(Zip, RefusesWhatIsNotPlainlyStored) {
  EXPECT_THROW(st::read_zip(zip_of({{"a", "x", 8}}), "x"), FormatError);
  EXPECT_THROW(st::read_zip(zip_of({{"a", "x"}, {"a", "y"}}), "x"), FormatError);
  std::string other = zip_of({{"a", "x"}});
  other[other.find("PK\3\4") + 30] = 'b';
  EXPECT_THROW(st::read_zip(other, "x"), FormatError);
}

TEST(Zip, StaysInBounds) {
  std::string good = zip_of({{"archive/data.pkl", "."}, {"b", "xyz", 0, true}}, true);
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_THROW(st::read_zip(good.substr(0, size), "x"), FormatError) << size;
  // Any byte may lie, as may any four and eight: an error or entries inside the file.
  for (size_t at = 0; at < good.size(); ++at)
    for (size_t count : {1, 4, 8}) {
      std::string bad = good;
      for (size_t i = at; i < std::min(at + count, bad.size()); ++i) bad[i] = '\xff';
      try {
        for (auto& [name, entry] : st::read_zip(bad, "x"))
          ASSERT_LE(entry.begin + entry.size, bad.size());
      } catch (const FormatError&) {
      }
    }
}

TEST(Zip, OldFormatsAreNamed) {
  EXPECT_REFUSED("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                 "older than PyTorch 1.6");
  EXPECT_REFUSED(std::string(2048, '\0'), "older than PyTorch 1.6");
}

}  // namespace
