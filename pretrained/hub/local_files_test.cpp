#include "pretrained/hub/local_files.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "pretrained/base/error.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class LocalFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("local-files-" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "in");
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, const std::string& text = "text") {
    fs::path path = folder_ / "in" / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  std::vector<std::string> list(const std::vector<std::string>& allow = {},
                                const std::vector<std::string>& ignore = {}) {
    std::vector<std::string> paths;
    for (auto& file : list_folder(folder_ / "in", allow, ignore)) paths.push_back(file.path);
    return paths;
  }
  template <class E, class F>
  std::string message_of(F call) {
    try {
      call();
    } catch (const E& error) {
      return error.what();
    }
    return "no error";
  }
  fs::path folder_;
};

TEST_F(LocalFiles, AreSortedAndSomeAreNeverAmongThem) {
  for (const char* name :
       {"b/c d.txt", "a%20#.bin", "ü.txt", ".gitignore", ".git/HEAD", "sub/.git/HEAD",
        ".cache/huggingface/x", ".pretrained-save/0", ".model.safetensors.tmp-4711-0"})
    write(name);
  EXPECT_THAT(list(), ElementsAre(".gitignore", "a%20#.bin", "b/c d.txt", "ü.txt"));
}

TEST_F(LocalFiles, PatternsChoose) {
  for (const char* name : {"a.bin", "a.txt", "sub/b.bin", "log/x.txt"}) write(name);
  EXPECT_THAT(list({"*.bin"}), ElementsAre("a.bin", "sub/b.bin"));
  EXPECT_THAT(list({}, {"*.bin", "log/"}), ElementsAre("a.txt"));
}

TEST_F(LocalFiles, LinksInsideAreFollowedAndOthersRefused) {
  write("real.txt");
  fs::create_symlink("real.txt", folder_ / "in/link.txt");
  auto files = list_folder(folder_ / "in", {}, {});
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].path, "link.txt");
  EXPECT_EQ(files[0].inode, files[1].inode);

  std::ofstream(folder_ / "secret") << "x";
  fs::create_symlink(folder_ / "secret", folder_ / "in/out.txt");
  EXPECT_THAT(message_of<FormatError>([&] { list(); }), HasSubstr("out.txt"));
  EXPECT_THAT(list({}, {"out.txt"}), ElementsAre("link.txt", "real.txt"));
  fs::remove(folder_ / "in/out.txt");
  fs::create_symlink("nowhere", folder_ / "in/broken");
  EXPECT_THAT(message_of<FormatError>([&] { list(); }), HasSubstr("broken"));
  fs::remove(folder_ / "in/broken");
  fs::create_directory(folder_ / "in/sub");
  fs::create_symlink("sub", folder_ / "in/folder");
  EXPECT_THAT(message_of<FormatError>([&] { list(); }), HasSubstr("folder"));
}

TEST_F(LocalFiles, SpecialFilesAndNamesAreRefused) {
  mkfifo((folder_ / "in/pipe").c_str(), 0600);
  EXPECT_THAT(message_of<FormatError>([&] { list(); }), HasSubstr("pipe"));
  fs::remove(folder_ / "in/pipe");
  for (const char* name : {"line\nbreak", "\xff", "back\\slash"}) {
    fs::path path = write(name);
    EXPECT_THROW(list(), ArgumentError) << name;
    fs::remove(path);
  }
}

TEST_F(LocalFiles, PathsInTheRepositoryAreNormal) {
  EXPECT_EQ(normal_repo_path("./a/b/"), "a/b");
  EXPECT_EQ(normal_repo_path("."), "");
  EXPECT_EQ(normal_repo_path("/"), "");
  for (const char* bad : {"..", "a/../b", "a//b", ".git/config", "a/.git"})
    EXPECT_THROW(normal_repo_path(bad), ArgumentError) << bad;
}

TEST_F(LocalFiles, AFileThatChangesIsNoticed) {
  fs::path path = write("a.bin", std::string(1000, 'a'));
  LocalFile local = local_file(path, "a.bin");
  {
    SourceFile source(local);
    EXPECT_EQ(source.read_whole(), std::string(1000, 'a'));
    fs::resize_file(path, 500);
    EXPECT_THAT(message_of<IoError>([&] { source.read_whole(); }), HasSubstr("changed while"));
  }
  EXPECT_THROW(SourceFile{local}, IoError);
  fs::remove(path);
  EXPECT_THROW(SourceFile{local}, NotFoundError);
}

}  // namespace
}  // namespace pretrained::hub
