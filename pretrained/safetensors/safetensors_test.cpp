#include "pretrained/safetensors/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "pretrained/base/error.h"
#include "pretrained/safetensors/index.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;
namespace st = pretrained::safetensors;

std::string file_of(const std::string& header, size_t data) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += char(header.size() >> (8 * i) & 0xFF);
  return out + header + std::string(data, '\0');
}

std::string error_of(const std::string& header, size_t data) {
  std::string file = file_of(header, data);
  try {
    st::parse_header(file, file.size(), "x");
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Safetensors, ReadsWhatIsWhole) {
  std::string file = file_of(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},)"
      R"("a":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"e":{"shape":[0,3],"dtype":"F32","data_offsets":[12,12]}}  )",
      12);
  auto header = st::parse_header(file, file.size(), "x");
  ASSERT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[1].dtype, st::Dtype::F16);
  EXPECT_EQ(header.metadata.at("format"), "pt");
}

TEST(Safetensors, RefusesHostileHeaders) {
  constexpr auto kOne = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  auto one = [&](const std::string& rest) { return "{\"a\":{" + rest + "}}"; };
  struct Case {
    std::string header;
    size_t data;
    const char* text;
  };
  for (
      auto& attack : std::vector<Case>{
          {one(kOne), 5, "bytes follow that belong to no tensor"},
          {one(kOne), 3, "truncated"},
          {one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4,
           "tensor 'a': shape and dtype need 8 bytes"},
          {one(R"("dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4])"),
           4, "overflows"},
          {one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), 4, "not negative"},
          {one(R"("dtype":"F32","shape":[1.0],"data_offsets":[0,4])"), 4, "expected an integer"},
          {one(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), 4, "run backwards"},
          {one(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), 4, "two numbers"},
          {one(R"("dtype":"F31","shape":[1],"data_offsets":[0,4])"), 4, "unknown dtype 'F31'"},
          {one(R"("dtype":"F32","shape":[1])"), 4, "needs dtype, shape and data_offsets"},
          {one(std::string(kOne) + ",\"evil\":1"), 4, "unknown field 'evil'"},
          {one(std::string(kOne) + ",\"dtype\":\"F32\""), 4, "the field 'dtype' stands twice"},
          {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
           8, "stands twice"},
          {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
           6, "overlap"},
          {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
           12, "hole"},
          {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "hole"},
          {R"({"__metadata__":{"x":1}})", 0, "number where none belongs"},
          {R"({"__metadata__":{"x":"1","x":"2"}})", 0, "twice"},
          {R"({"a":5})", 0, "number where none belongs"},
          {R"({"a":{"dtype":{"x":1}}})", 0, "object where none belongs"},
          {"[]", 0, "does not start with '{'"},
          {" {}", 0, "does not start with '{'"},
          {"{\"a\xff\":1}", 0, "not valid JSON"},
          {"{" + std::string(100000, '['), 0, "not valid JSON"},
          {"{\"a\":" + std::string(100000, '['), 0, "list where none belongs"}})
    EXPECT_NE(error_of(attack.header, attack.data).find(attack.text), std::string::npos)
        << attack.header.substr(0, 100) << " → " << error_of(attack.header, attack.data);
}

TEST(Safetensors, RefusesLyingLengths) {
  for (std::string bytes : {std::string(), std::string("1234567"), std::string(8, '\xff'),
                            std::string("\x10\0\0\0\0\0\0\0{}", 10), std::string(8, '\0')})
    EXPECT_THROW(st::parse_header(bytes, bytes.size(), "x"), FormatError);
  std::string large = file_of("{}", 0);
  large[3] = 0x10;
  EXPECT_THROW(st::parse_header(large, 1ull << 40, "x"), FormatError);
}

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("pretrained-safetensors-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  void TearDown() override { fs::remove_all(folder); }
  void write(const std::string& name, float value) {
    AtomicFile file(folder / name);
    st::write(file, {{"a", st::Dtype::F32, {1}, &value}});
    file.commit();
  }
  fs::path folder;
};

TEST_F(Folder, AMappedFileKeepsItsBytesWhenItIsReplaced) {
  write("x.safetensors", 1);
  st::File file(folder / "x.safetensors");
  write("x.safetensors", 2);
  EXPECT_EQ(*reinterpret_cast<float*>(file.data(*file.find("a"))), 1);
  *reinterpret_cast<float*>(file.data(*file.find("a"))) = 7;
  st::File again(folder / "x.safetensors");
  EXPECT_EQ(*reinterpret_cast<float*>(again.data(*again.find("a"))), 2);
}

TEST_F(Folder, OnlyRegularFilesAreMapped) {
  EXPECT_THROW(st::File(folder / "none"), NotFoundError);
  fs::create_directories(folder / "d");
  EXPECT_THROW(st::File(folder / "d"), FormatError);
  write_file_atomically(folder / "empty", "");
  EXPECT_THROW(st::File(folder / "empty"), FormatError);
}

TEST(Index, RefusesFilesOutsideTheFolder) {
  for (std::string name : {"../x.safetensors", "/abs.safetensors", "a/../b", "a/b", "a\\\\b", "..",
                           ".", "", "a\\u0000b", "é"})
    EXPECT_THROW(st::parse_index("{\"weight_map\":{\"t\":\"" + name + "\"}}", "i"), FormatError)
        << name;
  for (auto* text : {"{}", "[]", R"({"weight_map":[]})", R"({"weight_map":{"t":1}})",
                     R"({"weight_map":{},"metadata":3})",
                     R"({"weight_map":{"t":"a"},"metadata":{"total_size":"x"}})",
                     R"({"weight_map":{"t":"a","t":"b"}})"})
    EXPECT_THROW(st::parse_index(text, "i"), FormatError) << text;
}

TEST(Index, MustAgreeWithTheShards) {
  auto index =
      st::parse_index(R"({"metadata":{"total_size":8.0},"weight_map":{"a":"1","b":"2"}})", "i");
  EXPECT_NO_THROW(st::check_index(index, {{"1", {"a"}}, {"2", {"b"}}}, 8, "i"));
  EXPECT_THROW(st::check_index(index, {{"1", {"a"}}, {"2", {"b"}}}, 9, "i"), FormatError);
  EXPECT_THROW(st::check_index(index, {{"1", {"a", "c"}}, {"2", {"b"}}}, 8, "i"), FormatError);
  EXPECT_THROW(st::check_index(index, {{"1", {"a"}}, {"2", {}}}, 8, "i"), FormatError);
  EXPECT_THROW(st::check_index(index, {{"1", {"b"}}, {"2", {"a"}}}, 8, "i"), FormatError);
}

TEST(Index, ReadsSizesAndPlansShards) {
  EXPECT_EQ(st::parse_size("5GB"), 5000000000u);
  EXPECT_EQ(st::parse_size("5MiB"), 5u << 20);
  EXPECT_EQ(st::parse_size("123"), 123u);
  for (auto* text : {"", "GB", "-1GB", "5XB", "1e9", "0", "99999999999999TB"})
    EXPECT_THROW(st::parse_size(text), ArgumentError) << text;
  using Shards = std::vector<std::vector<size_t>>;
  EXPECT_EQ(st::plan_shards({6, 6, 2, 6, 2, 2}, 10), (Shards{{0}, {1, 2}, {3, 4, 5}}));
  EXPECT_EQ(st::plan_shards({1, 20, 1}, 10), (Shards{{1}, {0, 2}}));
  EXPECT_EQ(st::weights_name("fp16", 1, 3), "model.fp16-00002-of-00003.safetensors");
  EXPECT_THROW(st::check_variant("../x"), ArgumentError);
}

}  // namespace
