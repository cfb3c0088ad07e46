#include "pretrained/hub/commit.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>

#include "pretrained/base/error.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

class Body : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("commit-" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  LocalFile file(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return local_file(folder_ / name, "in/" + name);
  }
  fs::path folder_;
};

TEST_F(Body, IsOneLineForEachOperation) {
  CommitContent content{.summary = "Two\"s", .parent = std::string(40, 'a')};
  content.files.push_back({file("a b.txt", "hello")});
  content.files.push_back({file("empty", "")});
  content.files.push_back({file("m.bin", "large"), true, std::string(64, 'b')});
  content.deleted.push_back("old.txt");
  CommitBody body(content);
  std::string text(body.size(), '\0');
  ASSERT_EQ(body.read(0, text.data(), text.size() + 0), body.size());
  EXPECT_EQ(text, "{\"key\": \"header\", \"value\": {\"description\": \"\", \"parentCommit\": \"" +
                      content.parent +
                      "\", \"summary\": \"Two\\\"s\"}}\n"
                      "{\"key\": \"file\", \"value\": {\"path\": \"in/a b.txt\", \"encoding\": "
                      "\"base64\", \"content\": \"aGVsbG8=\"}}\n"
                      "{\"key\": \"file\", \"value\": {\"path\": \"in/empty\", \"encoding\": "
                      "\"base64\", \"content\": \"\"}}\n"
                      "{\"key\": \"lfsFile\", \"value\": {\"algo\": \"sha256\", \"oid\": \"" +
                      content.files[2].sha256 +
                      "\", \"path\": \"in/m.bin\", \"size\": 5}}\n"
                      "{\"key\": \"deletedFile\", \"value\": {\"path\": \"old.txt\"}}\n");
}

TEST_F(Body, IsTheSameHoweverItIsRead) {
  CommitContent content{.summary = "x"};
  std::string bytes;
  for (int i = 0; i < 10'000; ++i) bytes += char(i * 7);
  for (size_t size : {0, 1, 2, 3, 1000, 10'000})
    content.files.push_back({file(std::to_string(size), bytes.substr(0, size))});
  CommitBody body(content);
  std::string whole(body.size(), '\0');
  body.read(0, whole.data(), whole.size());
  for (size_t step : {1, 7, 4096}) {
    std::string text;
    std::vector<char> buffer(step);
    while (text.size() < body.size()) {
      size_t got = body.read(text.size(), buffer.data(), step);
      ASSERT_GT(got, 0u);
      text.append(buffer.data(), got);
    }
    EXPECT_EQ(text, whole);
  }
  std::vector<char> tail(100);  // from the middle, as a repeated request does from the start
  size_t got = body.read(whole.size() - 50, tail.data(), tail.size());
  EXPECT_EQ(std::string(tail.data(), got), whole.substr(whole.size() - 50));
}

TEST_F(Body, AFileThatWasCutMeanwhileIsAnError) {
  CommitContent content{.summary = "x"};
  content.files.push_back({file("a", std::string(1000, 'a'))});
  CommitBody body(content);
  fs::resize_file(folder_ / "a", 10);
  std::string text(body.size(), '\0');
  EXPECT_THROW(body.read(0, text.data(), text.size()), IoError);
}

}  // namespace
}  // namespace pretrained::hub
