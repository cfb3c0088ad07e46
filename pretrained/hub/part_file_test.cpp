#include "pretrained/hub/part_file.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <optional>

#include "pretrained/base/error.h"
#include "pretrained/base/sha256.h"

namespace pretrained::hub {
namespace {
namespace fs = std::filesystem;

class PartFileTest : public testing::Test {
 protected:
  PartFileTest() {
    char name[] = "/tmp/pretrained-part-XXXXXX";
    folder = mkdtemp(name);
    for (int i = 0; bytes.size() < 100'000; ++i) bytes += std::to_string(i * 7919);
    etag = sha256_hex(bytes);
  }
  ~PartFileTest() override { fs::remove_all(folder); }

  PartFile open() { return PartFile(folder / etag, etag, bytes.size()); }
  void put(PartFile& part, Range range) {
    part.write(range.begin, std::string_view(bytes).substr(range.begin, range.size()));
    part.mark_done(range);
  }
  std::string journal() {
    std::ifstream in(folder / (etag + ".pretrained.ranges"));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void set_journal(const std::string& text) {
    std::ofstream(folder / (etag + ".pretrained.ranges")) << text;
  }

  fs::path folder;
  std::string bytes, etag;
};

TEST_F(PartFileTest, TakesPiecesInAnyOrderAndGivesTheFile) {
  PartFile part = open();
  auto pieces = part.missing(30'000);
  ASSERT_EQ(pieces.size(), 4u);
  EXPECT_EQ(pieces.back().end, bytes.size());
  for (auto at = pieces.rbegin(); at != pieces.rend(); ++at) {
    put(part, *at);
    part.hash_ahead();
  }
  EXPECT_EQ(part.hash(), etag);
  part.move_to(folder / "done");
  std::ifstream in(folder / "done");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), bytes);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);
}

TEST_F(PartFileTest, TheNextProcessGoesOn) {
  {
    PartFile part = open();
    put(part, {0, 1000});
    put(part, {5000, 9000});
    part.write(50'000, "not yet done");
  }
  EXPECT_EQ(bytes_in_part(folder / etag, etag, bytes.size()), 5000u);
  PartFile part = open();
  EXPECT_TRUE(part.resumed());
  EXPECT_EQ(part.done_bytes(), 5000u);
  auto pieces = part.missing(1 << 30);
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0], (Range{1000, 5000}));
  EXPECT_EQ(pieces[1], (Range{9000, bytes.size()}));
  for (auto piece : pieces) put(part, piece);
  EXPECT_EQ(part.hash(), etag);
}

TEST_F(PartFileTest, LinesThatAreCutOffOrOfAnotherFileDoNotCount) {
  {
    PartFile part = open();
    put(part, {0, 1000});
    put(part, {2000, 3000});
  }
  std::string good = journal();
  set_journal(good.substr(0, good.size() - 5));
  EXPECT_EQ(open().done_bytes(), 1000u);
  for (std::string text :
       {"0 1000 0123456789abcdef\n", "0\n", "0 x\n", "\n", "18446744073709551616 1 x\n"}) {
    set_journal(text);
    EXPECT_EQ(open().done_bytes(), 0u) << text;
  }
  // Of the same file, but the bytes are gone.
  set_journal(good);
  fs::resize_file(folder / (etag + ".pretrained.part"), 10);
  EXPECT_EQ(open().done_bytes(), 0u);
}

TEST_F(PartFileTest, StartsAgainWithoutATrace) {
  PartFile part = open();
  put(part, {0, 1000});
  part.hash_ahead();
  part.restart();
  EXPECT_EQ(part.done_bytes(), 0u);
  put(part, {0, bytes.size()});
  EXPECT_EQ(part.hash(), etag);
  part.remove();
  EXPECT_TRUE(fs::is_empty(folder));
}

TEST_F(PartFileTest, ForeignFilesInItsPlaceAreRefused) {
  std::ofstream(folder / "victim") << "precious";
  fs::create_symlink(folder / "victim", folder / (etag + ".pretrained.part"));
  EXPECT_THROW(open(), IoError);
  fs::remove(folder / (etag + ".pretrained.part"));
  fs::create_hard_link(folder / "victim", folder / (etag + ".pretrained.part"));
  EXPECT_THROW(open(), FormatError);
  EXPECT_EQ(fs::file_size(folder / "victim"), 8u);
}

TEST_F(PartFileTest, NeverClaimsBytesThatAKilledProcessDidNotWrite) {
  for (int kill_after = 1; kill_after <= 20; ++kill_after) {
    pid_t child = fork();
    if (child == 0) {
      PartFile part = open();
      int steps = 0;
      for (auto piece : part.missing(3'000)) {
        part.write(piece.begin, std::string_view(bytes).substr(piece.begin, piece.size()));
        if (++steps == kill_after) _exit(0);
        part.mark_done(piece);
      }
      _exit(0);
    }
    waitpid(child, nullptr, 0);
    PartFile part = open();
    for (auto piece : part.missing(1 << 20)) put(part, piece);
    EXPECT_EQ(part.hash(), etag);
    part.remove();
  }
}

}  // namespace
}  // namespace pretrained::hub
