#include "pretrained/code/open.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/process.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;
using code::Memory;

class Open : public testing::TestWithParam<Memory> {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("pretrained-open-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
    chmod(folder.c_str(), 0700);
  }
  void TearDown() override { fs::remove_all(folder); }
  std::string library(int value) {
    write_file_atomically(folder / "a.c",
                          "int answer(void) { return " + std::to_string(value) + "; }");
    run_process({"clang-19", "-shared", "-fPIC", "-o", "a.so", "a.c"}, folder);
    std::string bytes = read_file(folder / "a.so");
    fs::remove(folder / "a.so");
    fs::remove(folder / "a.c");
    return bytes;
  }
  int answer(void* handle) { return reinterpret_cast<int (*)()>(dlsym(handle, "answer"))(); }
  fs::path folder;
};

TEST_P(Open, TwoRevisionsStayApartWhateverDescriptorsAreClosed) {
  std::vector<int> others;
  for (int i = 0; i < 8; ++i) others.push_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  void* first = code::open_library(library(1), folder, "first", GetParam());
  for (int fd : others) close(fd);
  void* second = code::open_library(library(2), folder, "second", GetParam());
  EXPECT_NE(first, second);
  EXPECT_EQ(answer(first), 1);
  EXPECT_EQ(answer(second), 2);
  EXPECT_EQ(fs::directory_iterator(folder), fs::directory_iterator()) << "no file has a name";
}

TEST_P(Open, NobodyCanWriteWhatIsOpen) {
  void* handle = code::open_library(library(3), folder, "third", GetParam());
  int writable = 0;
  for (auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    std::string target = fs::read_symlink(entry, error);
    if (target.find(GetParam() == Memory::sealed ? "pretrained-model-code"
                                                 : folder.string() + "/#") == target.npos)
      continue;
    int fd = std::stoi(entry.path().filename());
    writable += write(fd, "x", 1) == 1;
    if (GetParam() == Memory::sealed) {
      EXPECT_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
      EXPECT_NE(ftruncate(fd, 0), 0);
    } else {
      EXPECT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
      EXPECT_NE(linkat(fd, "", AT_FDCWD, (folder / "name").c_str(), AT_EMPTY_PATH), 0);
    }
  }
  EXPECT_EQ(writable, 0);
  EXPECT_EQ(answer(handle), 3);
}

TEST_P(Open, WhatIsNoLibrarySaysSo) {
  EXPECT_THROW(code::open_library("no library", folder, "bad", GetParam()), CompileError);
}

INSTANTIATE_TEST_SUITE_P(Code, Open, testing::Values(Memory::sealed, Memory::unnamed_file),
                         [](auto& info) {
                           return info.param == Memory::sealed ? "Sealed" : "UnnamedFile";
                         });

}  // namespace
