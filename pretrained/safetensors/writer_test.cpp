#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "pretrained/base/error.h"
#include "pretrained/safetensors/index.h"
#include "pretrained/safetensors/safetensors.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;
namespace st = pretrained::safetensors;

class Writer : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("pretrained-writer-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder / "in");
  }
  void TearDown() override { fs::remove_all(folder); }
  static std::vector<st::TensorData> one(const float& value) {
    return {{"a", st::Dtype::F32, {}, &value}};
  }
  void write(const fs::path& path, float value) {
    AtomicFile file(path);
    st::write(file, one(value));
    file.commit();
  }
  static float read(const fs::path& path) {
    st::File file(path);
    return *reinterpret_cast<const float*>(file.data(*file.find("a")));
  }
  fs::path folder;
};

// From Python: save({'a\x7f\x01"\\/é😀\n': torch.zeros(0, 3)}, {'format': 'pt'}).
TEST_F(Writer, SpellsTheHeaderAsPython) {
  auto plan = st::plan({{"a\x7f\x01\"\\/é😀\n", st::Dtype::F32, {0, 3}, nullptr}});
  EXPECT_EQ(plan.header.substr(8),
            "{\"__metadata__\":{\"format\":\"pt\"},\"a\x7f\\u0001\\\"\\\\/"
            "é😀\\n\":{\"dtype\":\"F32\",\"shape\":[0,3],"
            "\"data_offsets\":[0,0]}}     ");
  EXPECT_EQ(plan.header.substr(0, 8), std::string("\x70\0\0\0\0\0\0\0", 8));
}

TEST_F(Writer, OrdersByDtypeThenName) {
  auto plan = st::plan({{"b", st::Dtype::F32, {1}, nullptr},
                        {"c", st::Dtype::I64, {1}, nullptr},
                        {"a", st::Dtype::F32, {1}, nullptr}});
  EXPECT_EQ(plan.order, (std::vector<size_t>{1, 2, 0}));
}

TEST_F(Writer, RefusesWhatCouldNotBeReadAgain) {
  float value = 0;
  auto refused = [&](std::vector<st::TensorData> tensors, const char* what) {
    try {
      st::plan(tensors);
      ADD_FAILURE() << "no error: " << what;
    } catch (const FormatError& error) {
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  };
  refused({{"a", st::Dtype::F32, {}, &value}, {"a", st::Dtype::F32, {}, &value}}, "twice");
  refused({{"__metadata__", st::Dtype::F32, {}, &value}}, "__metadata__");
  refused({{"a\xff", st::Dtype::F32, {}, &value}}, "'a\\xff' is not UTF-8");
  refused({{"a", st::Dtype::BOOL, {-1}, &value}}, "negative");
  refused({{"a", st::Dtype::F32, {INT64_MAX, INT64_MAX}, &value}}, "overflows");
  refused(
      {{"a", st::Dtype::U8, {INT64_MAX, 2}, &value}, {"b", st::Dtype::U8, {INT64_MAX, 2}, &value}},
      "overflow");
  refused({{std::string(101'000'000, 'x'), st::Dtype::F32, {}, &value}}, "use more shards");
}

TEST_F(Writer, ReportsProgress) {
  float value = 0;
  std::vector<uint64_t> seen;
  AtomicFile file(folder / "x");
  st::write(file, one(value), {},
            [&](uint64_t done, uint64_t total) { seen.insert(seen.end(), {done, total}); });
  EXPECT_EQ(seen, (std::vector<uint64_t>{4, 4}));
}

TEST_F(Writer, AKilledWriteLeavesTheOldFile) {
  write(folder / "in/x", 1);
  if (pid_t child = fork(); child == 0) {
    AtomicFile file(folder / "in/x");
    st::write(file, one(2), {}, [](uint64_t, uint64_t) { raise(SIGKILL); });
    _exit(0);
  } else {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status));
  }
  EXPECT_EQ(read(folder / "in/x"), 1);
}

TEST_F(Writer, AnAbortedWriteLeavesTheOldFileAndNothingElse) {
  write(folder / "in/x", 1);
  auto stop = [](uint64_t, uint64_t) { throw std::runtime_error("stop"); };
  EXPECT_THROW(
      {
        AtomicFile file(folder / "in/x");
        st::write(file, one(2), {}, stop);
        file.commit();
      },
      std::runtime_error);
  EXPECT_EQ(read(folder / "in/x"), 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "in"), {}), 1);
}

TEST_F(Writer, TheMappingOutlivesFileAndName) {
  write(folder / "x", 3);
  auto file = std::make_unique<st::File>(folder / "x");
  auto mapping = file->mapping();
  auto* value = reinterpret_cast<const float*>(file->data(*file->find("a")));
  file.reset();
  fs::remove(folder / "x");
  EXPECT_EQ(*value, 3);
}

TEST_F(Writer, ACallersLinkIsFollowedAFilesIsNot) {
  write(folder / "x", 3);
  fs::create_symlink("../x", folder / "in/link");
  EXPECT_EQ(read(folder / "in/link"), 3);
  EXPECT_THROW(st::File(open_inside(folder / "in", "link"), "link"), FormatError);
}

TEST_F(Writer, AFifoDoesNotHang) {
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_THROW(st::File(folder / "fifo"), FormatError);
}

TEST_F(Writer, ReadsWhatItWrote) {
  std::vector<double> values(1000, 1.5);
  std::vector<st::TensorData> tensors = {{"empty", st::Dtype::BF16, {0}, nullptr},
                                         {"d", st::Dtype::F64, {10, 100}, values.data()}};
  AtomicFile out(folder / "x");
  st::write(out, tensors, {{"k", "v"}});
  out.commit();
  st::File file(folder / "x");
  EXPECT_EQ(file.header().metadata.at("k"), "v");
  EXPECT_EQ(file.find("none"), nullptr);
  EXPECT_EQ(file.find("empty")->shape, std::vector<int64_t>{0});
  EXPECT_EQ(std::string(file.data(*file.find("d")), 8000),
            std::string(reinterpret_cast<char*>(values.data()), 8000));
}

// Python reads this too: the product is taken before the item size.
TEST(Header, AnEmptyTensorMayHaveAHugeSide) {
  std::string header =
      R"({"a":{"dtype":"F32","shape":[4611686018427387904,0],"data_offsets":[0,0]}})";
  std::string file(8, '\0');
  file[0] = char(header.size());
  file += header;
  EXPECT_EQ(st::parse_header(file, file.size(), "x").tensors.at(0).shape.at(1), 0);
}

TEST(Sizes, AreReadAsHuggingFaceHubReadsThem) {
  EXPECT_EQ(st::parse_size("1.5GB"), 1500000000u);
  EXPECT_EQ(st::parse_size(" 5 gb "), 5000000000u);
  EXPECT_EQ(st::parse_size("5Gb"), 5000000000u);
  EXPECT_EQ(st::parse_size("1e3KB"), 1000000u);
  EXPECT_EQ(st::parse_size("2TB"), 2000000000000u);
  for (auto* text :
       {"1.5MiB", "1.5", "nanGB", "infGB", "-1.5GB", "1e300GB", "0.0001KB", "1 2GB", "0x1GB"})
    EXPECT_THROW(st::parse_size(text), ArgumentError) << text;
}

TEST(Sizes, ALimitBeyondAllSumsIsNoTrap) {
  EXPECT_EQ(st::plan_shards({UINT64_MAX, UINT64_MAX, 1}, UINT64_MAX).size(), 3u);
}

TEST(Names, OfVariants) {
  EXPECT_EQ(st::weights_name(""), "model.safetensors");
  EXPECT_EQ(st::weights_name("fp16"), "model.fp16.safetensors");
  EXPECT_EQ(st::index_name("fp16"), "model.safetensors.index.fp16.json");
}

TEST(IndexText, IsPythons) {
  st::Index index;
  index.weight_map = {{"b", "model-00002-of-00002.safetensors"},
                      {"é", "model-00001-of-00002.safetensors"}};
  index.total_size = 8;
  index.total_parameters = 2;
  EXPECT_EQ(st::write_index(index),
            "{\n  \"metadata\": {\n    \"total_parameters\": 2,\n    \"total_size\": 8\n  },\n  "
            "\"weight_map\": {\n"
            "    \"b\": \"model-00002-of-00002.safetensors\",\n    \"\\u00e9\": "
            "\"model-00001-of-00002.safetensors\"\n  }\n}\n");
  EXPECT_EQ(st::parse_index(st::write_index(index), "i").weight_map, index.weight_map);
}

}  // namespace
